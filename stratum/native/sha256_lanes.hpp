// SHA-256d of several messages in lockstep: word t of every message in one vector. AVX2 and AVX-512
// supply the vector; the algorithm is here once. Internal to sha256_avx2.cpp and sha256_avx512.cpp.
// Those files are compiled for different instruction sets: everything here has internal linkage, and
// calls no inline function of the standard library, so that the linker can merge nothing between them.
//
// A vector type V is a struct with static functions:
//   Word, kLanes                         the vector of 32-bit words, and how many
//   broadcast(x)  add(x, y)  rotate<N>(x)  shift<N>(x)  xor3(x, y, z)     to the right, where that matters
//   choose(e, f, g)  majority(a, b, c)   FIPS 180-4, 4.1.2
//   load(w, messages, offset)            the 64 bytes at `offset` of each message, as 16 vectors
//   store(out, s)                        8 vectors, as kLanes digests of 32 bytes
#pragma once
#include <cstring>

#include "sha256_backends.hpp"

namespace angara::sha256 {
namespace {

constexpr size_t kBlockBytes = 64, kDigestBytes = 32;

template <class V>
[[gnu::always_inline]] inline void one_round(typename V::Word a, typename V::Word b, typename V::Word c,
                                             typename V::Word& d, typename V::Word e, typename V::Word f,
                                             typename V::Word g, typename V::Word& h, typename V::Word key) {
    const auto sum1 = V::xor3(V::template rotate<6>(e), V::template rotate<11>(e), V::template rotate<25>(e));
    const auto sum0 = V::xor3(V::template rotate<2>(a), V::template rotate<13>(a), V::template rotate<22>(a));
    const auto t1 = V::add(V::add(V::add(h, key), V::choose(e, f, g)), sum1);
    d = V::add(d, t1);
    h = V::add(t1, V::add(sum0, V::majority(a, b, c)));
}

// FIPS 180-4, 6.2.2, step 3, sixteen times: then the working variables v are back in their places. key(i)
// is K + W of round i, asked for in order. (Everything is inlined by force, so that the 8 + 16 vectors can
// live in registers: an index into them that is not a constant would push them to memory.)
template <class V, class Key>
[[gnu::always_inline]] inline void sixteen_rounds(typename V::Word (&v)[8], Key key) {
    auto &a = v[0], &b = v[1], &c = v[2], &d = v[3], &e = v[4], &f = v[5], &g = v[6], &h = v[7];
    one_round<V>(a, b, c, d, e, f, g, h, key(0));
    one_round<V>(h, a, b, c, d, e, f, g, key(1));
    one_round<V>(g, h, a, b, c, d, e, f, key(2));
    one_round<V>(f, g, h, a, b, c, d, e, key(3));
    one_round<V>(e, f, g, h, a, b, c, d, key(4));
    one_round<V>(d, e, f, g, h, a, b, c, key(5));
    one_round<V>(c, d, e, f, g, h, a, b, key(6));
    one_round<V>(b, c, d, e, f, g, h, a, key(7));
    one_round<V>(a, b, c, d, e, f, g, h, key(8));
    one_round<V>(h, a, b, c, d, e, f, g, key(9));
    one_round<V>(g, h, a, b, c, d, e, f, key(10));
    one_round<V>(f, g, h, a, b, c, d, e, key(11));
    one_round<V>(e, f, g, h, a, b, c, d, key(12));
    one_round<V>(d, e, f, g, h, a, b, c, key(13));
    one_round<V>(c, d, e, f, g, h, a, b, key(14));
    one_round<V>(b, c, d, e, f, g, h, a, key(15));
}

// Replaces w[i] by the word of the message schedule 16 rounds later.
template <class V>
[[gnu::always_inline]] inline typename V::Word extend(typename V::Word (&w)[16], size_t i) {
    const auto low = w[(i + 1) % 16], high = w[(i + 14) % 16];
    const auto sigma0 = V::xor3(V::template rotate<7>(low), V::template rotate<18>(low), V::template shift<3>(low));
    const auto sigma1 =
        V::xor3(V::template rotate<17>(high), V::template rotate<19>(high), V::template shift<10>(high));
    return w[i] = V::add(V::add(V::add(w[i], w[(i + 9) % 16]), sigma0), sigma1);
}

// One compression of a block of each message. Destroys w.
template <class V>
[[gnu::always_inline]] inline void compress(typename V::Word (&s)[8], typename V::Word (&w)[16]) {
    typename V::Word v[8];
    for (size_t i = 0; i < 8; ++i) v[i] = s[i];
    sixteen_rounds<V>(
        v, [&](size_t i) __attribute__((always_inline)) { return V::add(w[i], V::broadcast(kRoundKeys.word[i])); });
    for (size_t t = 16; t < 64; t += 16) {
        sixteen_rounds<V>(v, [&](size_t i) __attribute__((always_inline)) {
            return V::add(extend<V>(w, i), V::broadcast(kRoundKeys.word[t + i]));
        });
    }
    for (size_t i = 0; i < 8; ++i) s[i] = V::add(s[i], v[i]);
}

// One compression of the same known block for every message.
template <class V>
[[gnu::always_inline]] inline void compress_known(typename V::Word (&s)[8], const RoundKeys& keys) {
    typename V::Word v[8];
    for (size_t i = 0; i < 8; ++i) v[i] = s[i];
    for (size_t t = 0; t < 64; t += 16) {
        sixteen_rounds<V>(v, [&](size_t i) __attribute__((always_inline)) { return V::broadcast(keys.word[t + i]); });
    }
    for (size_t i = 0; i < 8; ++i) s[i] = V::add(s[i], v[i]);
}

template <class V>
[[gnu::always_inline]] inline void set_state(typename V::Word (&s)[8], const State& state) {
    for (size_t i = 0; i < 8; ++i) s[i] = V::broadcast(state[i]);
}

// SHA-256 of the digests in `first`; writes the first `count` of them.
template <class V>
[[gnu::always_inline]] inline void hash_digests(uint8_t* out, const typename V::Word (&first)[8], size_t count) {
    typename V::Word w[16], s[8];
    for (size_t i = 0; i < 8; ++i) w[i] = first[i];
    w[8] = V::broadcast(kPaddingStart);
    for (size_t i = 9; i < 15; ++i) w[i] = V::broadcast(0);
    w[15] = V::broadcast(kDigestBits);
    set_state<V>(s, kInitialState);
    compress<V>(s, w);
    if (count == V::kLanes) {
        V::store(out, s);
        return;
    }
    uint8_t digests[V::kLanes * kDigestBytes];
    V::store(digests, s);
    std::memcpy(out, digests, count * kDigestBytes);
}

// The messages of the lanes, `size` bytes each; a lane beyond `count` repeats the last message.
template <class V>
struct Messages {
    const uint8_t* start[V::kLanes];

    Messages(const uint8_t* in, size_t size, size_t count) {
        for (size_t i = 0; i < V::kLanes; ++i) start[i] = in + (i < count ? i : count - 1) * size;
    }
};

template <class V>
void double_blocks(uint8_t* out, const State& midstate, const uint8_t* in, size_t blocks, size_t n) {
    for (size_t done = 0; done < n; done += V::kLanes) {
        const size_t size = blocks * kBlockBytes, count = n - done < V::kLanes ? n - done : V::kLanes;
        const Messages<V> messages(in + done * size, size, count);
        typename V::Word w[16], s[8];
        set_state<V>(s, midstate);
        for (size_t block = 0; block < blocks; ++block) {
            V::load(w, messages.start, block * kBlockBytes);
            compress<V>(s, w);
        }
        hash_digests<V>(out + done * kDigestBytes, s, count);
    }
}

template <class V>
void double_64(uint8_t* out, const uint8_t* in, size_t n) {
    for (size_t done = 0; done < n; done += V::kLanes) {
        const size_t count = n - done < V::kLanes ? n - done : V::kLanes;
        const Messages<V> messages(in + done * kBlockBytes, kBlockBytes, count);
        typename V::Word w[16], s[8];
        set_state<V>(s, kInitialState);
        V::load(w, messages.start, 0);
        compress<V>(s, w);
        compress_known<V>(s, kNodePaddingKeys);
        hash_digests<V>(out + done * kDigestBytes, s, count);
    }
}

}  // namespace
}  // namespace angara::sha256
