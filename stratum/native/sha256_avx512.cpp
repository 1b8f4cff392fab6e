// SHA-256d of 16 messages in lockstep, in AVX-512 (F, BW, VL). Compiled with these enabled: runs only
// where CPUID allows it. Rotations and three-operand logic are one instruction each.
#include <immintrin.h>

#include "sha256_lanes.hpp"

#if defined(__GNUC__) && !defined(__clang__)
// GCC 12's own header passes a value that is "undefined on purpose" where a mask discards it, and then
// warns about that (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace angara::sha256 {
namespace {

struct Avx512 {
    using Word = __m512i;
    static constexpr size_t kLanes = kAvx512Lanes;

    static Word broadcast(uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
    static Word add(Word x, Word y) { return _mm512_add_epi32(x, y); }

    template <int kBits>
    static Word shift(Word x) {
        return _mm512_srli_epi32(x, kBits);
    }

    template <int kBits>
    static Word rotate(Word x) {
        return _mm512_ror_epi32(x, kBits);
    }

    // Ternary logic: bit (4x + 2y + z) of the constant is the result for bits x, y, z.
    static Word xor3(Word x, Word y, Word z) { return _mm512_ternarylogic_epi32(x, y, z, 0x96); }
    static Word choose(Word e, Word f, Word g) { return _mm512_ternarylogic_epi32(e, f, g, 0xca); }
    static Word majority(Word a, Word b, Word c) { return _mm512_ternarylogic_epi32(a, b, c, 0xe8); }

    static Word swap_bytes(Word x) {
        const Word order = _mm512_broadcast_i32x4(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3));
        return _mm512_shuffle_epi8(x, order);
    }

    // Transposes 4 x 4 words in each quarter: column i is word i of the four rows.
    static void transpose(Word (&column)[4], Word row0, Word row1, Word row2, Word row3) {
        const Word low01 = _mm512_unpacklo_epi32(row0, row1), high01 = _mm512_unpackhi_epi32(row0, row1);
        const Word low23 = _mm512_unpacklo_epi32(row2, row3), high23 = _mm512_unpackhi_epi32(row2, row3);
        column[0] = _mm512_unpacklo_epi64(low01, low23);
        column[1] = _mm512_unpackhi_epi64(low01, low23);
        column[2] = _mm512_unpacklo_epi64(high01, high23);
        column[3] = _mm512_unpackhi_epi64(high01, high23);
    }

    static void load(Word (&w)[16], const uint8_t* const (&messages)[kLanes], size_t offset) {
        Word part[4][4];  // the quarters of [j][i]: words i, i + 4, i + 8, i + 12 of messages 4j to 4j + 3
        for (size_t j = 0; j < 4; ++j) {
            Word row[4];
            for (size_t i = 0; i < 4; ++i) {
                row[i] = swap_bytes(_mm512_loadu_si512(messages[4 * j + i] + offset));
            }
            transpose(part[j], row[0], row[1], row[2], row[3]);
        }
        for (size_t i = 0; i < 4; ++i) {  // gather the same quarter of the four parts
            const Word front01 = _mm512_shuffle_i32x4(part[0][i], part[1][i], 0x44);
            const Word front23 = _mm512_shuffle_i32x4(part[2][i], part[3][i], 0x44);
            const Word back01 = _mm512_shuffle_i32x4(part[0][i], part[1][i], 0xee);
            const Word back23 = _mm512_shuffle_i32x4(part[2][i], part[3][i], 0xee);
            w[i] = _mm512_shuffle_i32x4(front01, front23, 0x88);
            w[i + 4] = _mm512_shuffle_i32x4(front01, front23, 0xdd);
            w[i + 8] = _mm512_shuffle_i32x4(back01, back23, 0x88);
            w[i + 12] = _mm512_shuffle_i32x4(back01, back23, 0xdd);
        }
    }

    // Two messages, `distance` digests apart.
    static void store_pair(uint8_t* to, size_t distance, Word pair) {
        const Word bytes = swap_bytes(pair);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_castsi512_si256(bytes));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + distance * kDigestBytes),
                            _mm512_extracti64x4_epi64(bytes, 1));
    }

    static void store(uint8_t* out, const Word (&s)[8]) {
        Word abcd[4], efgh[4];  // the quarters of [i]: messages i, i + 4, i + 8, i + 12
        transpose(abcd, s[0], s[1], s[2], s[3]);
        transpose(efgh, s[4], s[5], s[6], s[7]);
        const Word front = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);
        const Word back = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
        for (size_t i = 0; i < 4; ++i) {
            uint8_t* const to = out + i * kDigestBytes;
            store_pair(to, 4, _mm512_permutex2var_epi64(abcd[i], front, efgh[i]));
            store_pair(to + 8 * kDigestBytes, 4, _mm512_permutex2var_epi64(abcd[i], back, efgh[i]));
        }
    }
};

}  // namespace

constinit const Backend kAvx512{"avx512", Avx512::kLanes, double_blocks<Avx512>, double_64<Avx512>};

}  // namespace angara::sha256
