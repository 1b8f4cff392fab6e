// What the SHA-256 files share: the constants of FIPS 180-4 and the backends that they export.
// Internal to sha256*.cpp. The files are compiled for different instruction sets, so nothing here may
// become code that the linker could merge between them: data, compile-time functions, declarations.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>

#include "sha256.hpp"

namespace angara::sha256 {

// 64 words of K, or of K + W for a block that is known beforehand.
struct alignas(64) RoundKeys {
    uint32_t word[64];
};

// FIPS 180-4, 4.2.2.
constexpr RoundKeys kRoundKeys{{
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
}};

// A message ends with one bit, zeros, and its length in bits (FIPS 180-4, 5.1.1).
constexpr uint32_t kPaddingStart = 0x80000000;
constexpr uint32_t kDigestBits = 256;
constexpr uint32_t kNodeBits = 512;

// K + W of the block that pads a 64-byte message: it holds nothing but padding, so its whole message
// schedule is a constant and costs nothing at run time.
consteval RoundKeys node_padding_keys() {
    RoundKeys keys{};
    uint32_t w[64] = {kPaddingStart};
    w[15] = kNodeBits;
    for (size_t t = 0; t < 64; ++t) {
        if (t >= 16) {
            const uint32_t low = w[t - 15], high = w[t - 2];
            const uint32_t sigma0 = std::rotr(low, 7) ^ std::rotr(low, 18) ^ (low >> 3);
            const uint32_t sigma1 = std::rotr(high, 17) ^ std::rotr(high, 19) ^ (high >> 10);
            w[t] = w[t - 16] + sigma0 + w[t - 7] + sigma1;
        }
        keys.word[t] = kRoundKeys.word[t] + w[t];
    }
    return keys;
}
constexpr RoundKeys kNodePaddingKeys = node_padding_keys();

constexpr size_t kAvx512Lanes = 16;

extern const Backend kPortable;
#if defined(__x86_64__)
extern const Backend kShani;
extern const Backend kAvx2;
extern const Backend kAvx512;
#endif

}  // namespace angara::sha256
