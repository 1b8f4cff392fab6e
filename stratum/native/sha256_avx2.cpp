// SHA-256d of 8 messages in lockstep, in AVX2. Compiled with -mavx2: runs only where CPUID allows it.
#include <immintrin.h>

#include "sha256_lanes.hpp"

namespace angara::sha256 {
namespace {

struct Avx2 {
    using Word = __m256i;
    static constexpr size_t kLanes = 8;

    static Word broadcast(uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }
    static Word add(Word x, Word y) { return _mm256_add_epi32(x, y); }

    // The empty statement makes GCC compute the result here. Left to itself it puts that off until the use,
    // when the operands have been spilled: a third slower.
    static Word xor3(Word x, Word y, Word z) {
        Word result = _mm256_xor_si256(_mm256_xor_si256(x, y), z);
        asm("" : "+x"(result));
        return result;
    }

    template <int kBits>
    static Word shift(Word x) {
        return _mm256_srli_epi32(x, kBits);
    }

    template <int kBits>
    static Word rotate(Word x) {
        return _mm256_or_si256(_mm256_srli_epi32(x, kBits), _mm256_slli_epi32(x, 32 - kBits));
    }

    static Word choose(Word e, Word f, Word g) {
        return _mm256_xor_si256(g, _mm256_and_si256(e, _mm256_xor_si256(f, g)));
    }

    // b ^ c is a ^ b of the round before: the compiler computes it once.
    static Word majority(Word a, Word b, Word c) {
        return _mm256_xor_si256(b, _mm256_and_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(b, c)));
    }

    static Word swap_bytes(Word x) {
        const Word order =
            _mm256_broadcastsi128_si256(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3));
        return _mm256_shuffle_epi8(x, order);
    }

    // Transposes 4 x 4 words in each half: column i is word i of the four rows.
    static void transpose(Word (&column)[4], Word row0, Word row1, Word row2, Word row3) {
        const Word low01 = _mm256_unpacklo_epi32(row0, row1), high01 = _mm256_unpackhi_epi32(row0, row1);
        const Word low23 = _mm256_unpacklo_epi32(row2, row3), high23 = _mm256_unpackhi_epi32(row2, row3);
        column[0] = _mm256_unpacklo_epi64(low01, low23);
        column[1] = _mm256_unpackhi_epi64(low01, low23);
        column[2] = _mm256_unpacklo_epi64(high01, high23);
        column[3] = _mm256_unpackhi_epi64(high01, high23);
    }

    static Word load_row(const uint8_t* from) {
        return swap_bytes(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    }

    static void load(Word (&w)[16], const uint8_t* const (&messages)[kLanes], size_t offset) {
        for (size_t word = 0; word < 16; word += 8) {
            Word row[kLanes], first[4], last[4];
            for (size_t i = 0; i < kLanes; ++i) row[i] = load_row(messages[i] + offset + 4 * word);
            transpose(first, row[0], row[1], row[2], row[3]);
            transpose(last, row[4], row[5], row[6], row[7]);
            for (size_t i = 0; i < 4; ++i) {
                w[word + i] = _mm256_permute2x128_si256(first[i], last[i], 0x20);
                w[word + i + 4] = _mm256_permute2x128_si256(first[i], last[i], 0x31);
            }
        }
    }

    static void store_row(uint8_t* to, Word row) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), swap_bytes(row));
    }

    static void store(uint8_t* out, const Word (&s)[8]) {
        Word abcd[4], efgh[4];  // the halves of [i]: messages i and i + 4
        transpose(abcd, s[0], s[1], s[2], s[3]);
        transpose(efgh, s[4], s[5], s[6], s[7]);
        for (size_t i = 0; i < 4; ++i) {
            store_row(out + i * kDigestBytes, _mm256_permute2x128_si256(abcd[i], efgh[i], 0x20));
            store_row(out + (i + 4) * kDigestBytes, _mm256_permute2x128_si256(abcd[i], efgh[i], 0x31));
        }
    }
};

}  // namespace

constinit const Backend kAvx2{"avx2", Avx2::kLanes, double_blocks<Avx2>, double_64<Avx2>};

}  // namespace angara::sha256
