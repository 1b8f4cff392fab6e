// Double SHA-256 of many messages at once. One instruction set a file; sha256.cpp chooses by CPUID
// at start, self-tests what it chose against known vectors, and names it. Knows nothing of mining.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace angara::sha256 {

using State = uint32_t[8];

// The initial state of FIPS 180-4, 5.3.3.
extern const State kInitialState;

struct Backend {
    const char* name;  // "portable", "shani", "avx2", "avx512"
    size_t lanes;      // how many messages it hashes in lockstep
    // For each of n messages: SHA-256 continued from `midstate` (shared by all) over `blocks` 64-byte
    // blocks that already carry the padding, then SHA-256 of that 32-byte digest.
    // in: n * blocks * 64 bytes, message after message; out: n * 32 bytes. in and out may not overlap.
    void (*double_blocks)(uint8_t* out, const State& midstate, const uint8_t* in, size_t blocks, size_t n);
    // For each of n merkle nodes: SHA-256d of 64 bytes. in: n * 64 bytes; out: n * 32 bytes.
    // in and out may not overlap.
    void (*double_64)(uint8_t* out, const uint8_t* in, size_t n);
};

// What this CPU can run, the slowest first; every one of them has passed self_test.
const std::vector<const Backend*>& available();

// The backend in use: the last of available(), or the one named by ANGARA_SHA256.
// Throws std::runtime_error when that name is unknown, or not for this CPU.
const Backend& chosen();

// By name; nullptr when it is unknown or this CPU cannot run it.
const Backend* by_name(std::string_view name);

// True when the backend agrees with known vectors for every count of messages from 1 to 2 * lanes + 1.
bool self_test(const Backend& backend);

// One compression of `blocks` whole 64-byte blocks into state: the common prefix of a job's coinbases.
void compress(State& state, const uint8_t* data, size_t blocks);

}  // namespace angara::sha256
