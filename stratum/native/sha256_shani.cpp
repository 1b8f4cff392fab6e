// SHA-256d with the SHA extensions of x86. Compiled with -msse4.1 -msha: runs only where CPUID allows it.
// Two messages go through the rounds side by side: each round instruction waits for the one before it,
// and the second message fills that wait.
#include <immintrin.h>

#include "sha256_backends.hpp"

namespace angara::sha256 {
namespace {

constexpr size_t kBlockBytes = 64, kDigestBytes = 32;

// The eight words of a state as the instructions want them, the highest lane first.
struct Halves {
    __m128i abef, cdgh;
};

using Block = __m128i[4];  // 16 words, the earliest in the lowest lane of [0]

[[gnu::always_inline]] inline __m128i load(const void* from) {
    return _mm_loadu_si128(static_cast<const __m128i*>(from));
}

[[gnu::always_inline]] inline Halves load_state(const State& state) {
    const __m128i cdab = _mm_shuffle_epi32(load(state), 0xb1);
    const __m128i efgh = _mm_shuffle_epi32(load(state + 4), 0x1b);
    return {_mm_alignr_epi8(cdab, efgh, 8), _mm_blend_epi16(efgh, cdab, 0xf0)};
}

// Four rounds of every message; keys: four words of K + W each.
template <size_t kWays>
[[gnu::always_inline]] inline void four_rounds(Halves (&s)[kWays], const __m128i (&keys)[kWays]) {
    for (size_t i = 0; i < kWays; ++i) s[i].cdgh = _mm_sha256rnds2_epu32(s[i].cdgh, s[i].abef, keys[i]);
    for (size_t i = 0; i < kWays; ++i) {
        s[i].abef = _mm_sha256rnds2_epu32(s[i].abef, s[i].cdgh, _mm_shuffle_epi32(keys[i], 0x0e));
    }
}

// Four rounds on the words w[kPart]; then, if asked, replaces these words by the ones 16 rounds later.
template <size_t kPart, bool kExtend, size_t kWays>
[[gnu::always_inline]] inline void four_rounds(Halves (&s)[kWays], Block (&w)[kWays], const uint32_t* k) {
    constexpr size_t kNext = (kPart + 1) % 4, kSecond = (kPart + 2) % 4, kLast = (kPart + 3) % 4;
    __m128i keys[kWays];
    for (size_t i = 0; i < kWays; ++i) keys[i] = _mm_add_epi32(w[i][kPart], load(k + 4 * kPart));
    four_rounds(s, keys);
    if constexpr (kExtend) {
        for (size_t i = 0; i < kWays; ++i) {
            const __m128i nine_on = _mm_alignr_epi8(w[i][kLast], w[i][kSecond], 4);
            const __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(w[i][kPart], w[i][kNext]), nine_on);
            w[i][kPart] = _mm_sha256msg2_epu32(sum, w[i][kLast]);
        }
    }
}

template <bool kExtend, size_t kWays>
[[gnu::always_inline]] inline void sixteen_rounds(Halves (&s)[kWays], Block (&w)[kWays], const uint32_t* k) {
    four_rounds<0, kExtend>(s, w, k);
    four_rounds<1, kExtend>(s, w, k);
    four_rounds<2, kExtend>(s, w, k);
    four_rounds<3, kExtend>(s, w, k);
}

template <size_t kWays>
[[gnu::always_inline]] inline void add_state(Halves (&s)[kWays], const Halves (&before)[kWays]) {
    for (size_t i = 0; i < kWays; ++i) {
        s[i].abef = _mm_add_epi32(s[i].abef, before[i].abef);
        s[i].cdgh = _mm_add_epi32(s[i].cdgh, before[i].cdgh);
    }
}

template <size_t kWays>
[[gnu::always_inline]] inline void copy_state(Halves (&to)[kWays], const Halves (&from)[kWays]) {
    for (size_t i = 0; i < kWays; ++i) to[i] = from[i];
}

// One compression of a block of each message. Destroys w.
template <size_t kWays>
[[gnu::always_inline]] inline void compress(Halves (&s)[kWays], Block (&w)[kWays]) {
    Halves before[kWays];
    copy_state(before, s);
    for (size_t t = 0; t < 48; t += 16) sixteen_rounds<true>(s, w, kRoundKeys.word + t);
    sixteen_rounds<false>(s, w, kRoundKeys.word + 48);
    add_state(s, before);
}

// One compression of the same known block for every message.
template <size_t kWays>
[[gnu::always_inline]] inline void compress_known(Halves (&s)[kWays], const RoundKeys& known) {
    Halves before[kWays];
    copy_state(before, s);
    for (size_t t = 0; t < 64; t += 4) {
        __m128i keys[kWays];
        for (size_t i = 0; i < kWays; ++i) keys[i] = load(known.word + t);
        four_rounds(s, keys);
    }
    add_state(s, before);
}

template <size_t kWays>
[[gnu::always_inline]] inline void load_blocks(Block (&w)[kWays], const uint8_t* in, size_t stride) {
    const __m128i swap = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    for (size_t i = 0; i < kWays; ++i) {
        for (size_t part = 0; part < 4; ++part) {
            w[i][part] = _mm_shuffle_epi8(load(in + i * stride + 16 * part), swap);
        }
    }
}

// SHA-256 of the digests in `first`.
template <size_t kWays>
[[gnu::always_inline]] inline void hash_digests(uint8_t* out, const Halves (&first)[kWays]) {
    Block w[kWays];
    Halves s[kWays];
    const Halves initial = load_state(kInitialState);
    for (size_t i = 0; i < kWays; ++i) {
        w[i][0] = _mm_shuffle_epi32(_mm_unpackhi_epi64(first[i].abef, first[i].cdgh), 0xb1);
        w[i][1] = _mm_shuffle_epi32(_mm_unpacklo_epi64(first[i].abef, first[i].cdgh), 0xb1);
        w[i][2] = _mm_setr_epi32(static_cast<int>(kPaddingStart), 0, 0, 0);
        w[i][3] = _mm_setr_epi32(0, 0, 0, static_cast<int>(kDigestBits));
        s[i] = initial;
    }
    compress(s, w);
    // Each half of the register holds two words in reverse, and they go out big-endian.
    const __m128i reverse = _mm_set_epi8(8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    for (size_t i = 0; i < kWays; ++i) {
        const __m128i abcd = _mm_unpackhi_epi64(s[i].abef, s[i].cdgh);
        const __m128i efgh = _mm_unpacklo_epi64(s[i].abef, s[i].cdgh);
        __m128i* const to = reinterpret_cast<__m128i*>(out + i * kDigestBytes);
        _mm_storeu_si128(to, _mm_shuffle_epi8(abcd, reverse));
        _mm_storeu_si128(to + 1, _mm_shuffle_epi8(efgh, reverse));
    }
}

template <size_t kWays>
void double_blocks_of(uint8_t* out, const Halves& midstate, const uint8_t* in, size_t blocks) {
    Halves s[kWays];
    Block w[kWays];
    for (size_t i = 0; i < kWays; ++i) s[i] = midstate;
    for (size_t block = 0; block < blocks; ++block) {
        load_blocks(w, in + block * kBlockBytes, blocks * kBlockBytes);
        compress(s, w);
    }
    hash_digests(out, s);
}

template <size_t kWays>
void double_64_of(uint8_t* out, const uint8_t* in) {
    Halves s[kWays];
    Block w[kWays];
    for (size_t i = 0; i < kWays; ++i) s[i] = load_state(kInitialState);
    load_blocks(w, in, kBlockBytes);
    compress(s, w);
    compress_known(s, kNodePaddingKeys);
    hash_digests(out, s);
}

constexpr size_t kLanes = 2;

void double_blocks(uint8_t* out, const State& midstate, const uint8_t* in, size_t blocks, size_t n) {
    const Halves start = load_state(midstate);
    const size_t size = blocks * kBlockBytes;
    for (; n >= kLanes; n -= kLanes, in += kLanes * size, out += kLanes * kDigestBytes) {
        double_blocks_of<kLanes>(out, start, in, blocks);
    }
    if (n > 0) double_blocks_of<1>(out, start, in, blocks);
}

void double_64(uint8_t* out, const uint8_t* in, size_t n) {
    for (; n >= kLanes; n -= kLanes, in += kLanes * kBlockBytes, out += kLanes * kDigestBytes) {
        double_64_of<kLanes>(out, in);
    }
    if (n > 0) double_64_of<1>(out, in);
}

}  // namespace

constinit const Backend kShani{"shani", kLanes, double_blocks, double_64};

}  // namespace angara::sha256
