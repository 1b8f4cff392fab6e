// Which SHA-256 backend this CPU runs: finds out what it supports, tests every backend that it could
// run against known hashes, and picks one. Compiled for any CPU: no instruction set is assumed here.
#include "sha256.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>

#include "sha256_backends.hpp"
#include "sha256_vectors.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace angara::sha256 {

const State kInitialState = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                             0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

namespace {

constexpr size_t kBlockBytes = 64, kDigestBytes = 32;

#if defined(__x86_64__)

struct Cpu {
    bool sha = false, avx2 = false, avx512 = false;
};

// The register states that the operating system saves and restores. Whatever CPUID says, AVX code dies of
// SIGILL where they are not among them.
uint64_t saved_states() {
    uint32_t low, high;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return uint64_t{high} << 32 | low;
}

Cpu read_cpu() {
    constexpr uint64_t kAvxStates = 0x06;     // SSE and the upper half of AVX
    constexpr uint64_t kAvx512States = 0xe6;  // also masks, the upper halves and the upper sixteen registers
    constexpr uint32_t kSseBits = bit_SSSE3 | bit_SSE4_1;
    constexpr uint32_t kAvx512Bits = bit_AVX512F | bit_AVX512BW | bit_AVX512VL;
    Cpu cpu;
    uint32_t eax, ebx, ecx, edx;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return cpu;
    const bool sse = (ecx & kSseBits) == kSseBits;
    const uint64_t states = (ecx & bit_OSXSAVE) != 0 ? saved_states() : 0;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return cpu;
    cpu.sha = sse && (ebx & bit_SHA) != 0;
    cpu.avx2 = (states & kAvxStates) == kAvxStates && (ebx & bit_AVX2) != 0;
    cpu.avx512 = cpu.avx2 && (states & kAvx512States) == kAvx512States && (ebx & kAvx512Bits) == kAvx512Bits;
    return cpu;
}

// AVX-512 takes the same time for one message as for 16: on Zen 4 0.81 us (merkle nodes) and 0.89 us (two
// blocks). SHA-NI needs 0.054 and 0.057 us a message, in pairs: 14 of them are the faster that way, 15 not.
constexpr size_t kShaniTailMax = 14;

size_t count_for_avx512(size_t n) {
    const size_t tail = n % kAvx512Lanes;
    return tail > kShaniTailMax ? n : n - tail;
}

void combined_double_blocks(uint8_t* out, const State& midstate, const uint8_t* in, size_t blocks, size_t n) {
    const size_t first = count_for_avx512(n);
    kAvx512.double_blocks(out, midstate, in, blocks, first);
    kShani.double_blocks(out + first * kDigestBytes, midstate, in + first * blocks * kBlockBytes, blocks, n - first);
}

void combined_double_64(uint8_t* out, const uint8_t* in, size_t n) {
    const size_t first = count_for_avx512(n);
    kAvx512.double_64(out, in, first);
    kShani.double_64(out + first * kDigestBytes, in + first * kNodeBytes, n - first);
}

constinit const Backend kCombined{"avx512+shani", kAvx512Lanes, combined_double_blocks, combined_double_64};

#endif

std::vector<const Backend*> find_available() {
    std::vector<const Backend*> found;
    const auto offer = [&found](bool supported, const Backend& backend) {
        if (supported && self_test(backend)) found.push_back(&backend);
    };
    offer(true, kPortable);
#if defined(__x86_64__)
    const Cpu cpu = read_cpu();
    offer(cpu.avx2, kAvx2);
    offer(cpu.sha, kShani);
    offer(cpu.avx512, kAvx512);
    offer(cpu.avx512 && cpu.sha, kCombined);
#endif
    if (found.empty()) throw std::runtime_error("no SHA-256 backend passed its self-test");
    return found;
}

const Backend& choose() {
    const char* const wanted = std::getenv("ANGARA_SHA256");
    if (wanted == nullptr || *wanted == '\0') return *available().back();
    if (const Backend* const backend = by_name(wanted)) return *backend;
    std::string message = "ANGARA_SHA256=" + std::string(wanted);
    message += ": unknown, or not for this CPU, which runs";
    for (const Backend* backend : available()) message += std::string(" ") + backend->name;
    throw std::runtime_error(message);
}

constexpr size_t kLanesMax = 16;  // what the buffers of the self-test are made for
constexpr size_t kCountMax = 2 * kLanesMax + 1;

// True when hash(out, in, n) gives the digests of the known messages, taken in turn until there are n, and
// writes nothing after them. The addresses are odd: callers need not align.
template <size_t kBytes, class Hash>
bool agrees(std::span<const KnownHash<kBytes>> known, size_t n, Hash hash) {
    constexpr uint8_t kUntouched = 0xa5;
    alignas(64) uint8_t in_buffer[1 + kCountMax * kBytes];
    alignas(64) uint8_t out_buffer[1 + (kCountMax + 1) * kDigestBytes];
    uint8_t *const in = in_buffer + 1, *const out = out_buffer + 1, *const end = out + n * kDigestBytes;
    std::memset(in_buffer, kUntouched, sizeof in_buffer);
    for (size_t i = 0; i < n; ++i) {
        std::memcpy(in + i * kBytes, known[i % known.size()].message.data(), kBytes);
    }
    std::memset(out_buffer, kUntouched, sizeof out_buffer);
    hash(out, in, n);
    for (size_t i = 0; i < n; ++i) {
        const auto& digest = known[i % known.size()].digest;
        if (std::memcmp(out + i * kDigestBytes, digest.data(), kDigestBytes) != 0) return false;
    }
    return std::all_of(end, end + kDigestBytes, [](uint8_t byte) { return byte == kUntouched; });
}

// The headers again, from the state after their first block: messages of one block.
bool agrees_from_midstate(const Backend& backend, size_t n) {
    for (const auto& header : kKnownHeaders) {
        State midstate;
        std::copy(kInitialState, kInitialState + 8, midstate);
        compress(midstate, header.message.data(), 1);
        KnownHash<kBlockBytes> rest{{}, header.digest};
        std::copy(header.message.begin() + kBlockBytes, header.message.end(), rest.message.begin());
        const auto double_rests = [&](uint8_t* out, const uint8_t* in, size_t count) {
            backend.double_blocks(out, midstate, in, 1, count);
        };
        if (!agrees<kBlockBytes>({&rest, 1}, n, double_rests)) return false;
    }
    return true;
}

}  // namespace

const std::vector<const Backend*>& available() {
    static const std::vector<const Backend*> found = find_available();
    return found;
}

const Backend& chosen() {
    static const Backend& backend = choose();
    return backend;
}

const Backend* by_name(std::string_view name) {
    for (const Backend* backend : available()) {
        if (backend->name == name) return backend;
    }
    return nullptr;
}

bool self_test(const Backend& backend) {
    if (backend.lanes > kLanesMax) return false;
    const auto double_headers = [&backend](uint8_t* out, const uint8_t* in, size_t count) {
        backend.double_blocks(out, kInitialState, in, 2, count);
    };
    for (size_t n = 1; n <= 2 * backend.lanes + 1; ++n) {
        const bool nodes = agrees<kNodeBytes>(kKnownNodes, n, backend.double_64);
        const bool headers = agrees<kPaddedHeaderBytes>(kKnownHeaders, n, double_headers);
        if (!nodes || !headers || !agrees_from_midstate(backend, n)) return false;
    }
    return true;
}

}  // namespace angara::sha256
