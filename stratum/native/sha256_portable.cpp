// SHA-256 in plain C++, one message at a time, for every CPU: the backend of last resort, and the
// compression that prepares midstates. Assumes neither byte order nor alignment.
#include "sha256_backends.hpp"

namespace angara::sha256 {
namespace {

constexpr size_t kBlockBytes = 64, kDigestBytes = 32;

uint32_t load_word(const uint8_t* from) {
    return uint32_t{from[0]} << 24 | uint32_t{from[1]} << 16 | uint32_t{from[2]} << 8 | uint32_t{from[3]};
}

void store_word(uint8_t* to, uint32_t word) {
    to[0] = static_cast<uint8_t>(word >> 24);
    to[1] = static_cast<uint8_t>(word >> 16);
    to[2] = static_cast<uint8_t>(word >> 8);
    to[3] = static_cast<uint8_t>(word);
}

void load_block(uint32_t (&w)[16], const uint8_t* from) {
    for (size_t i = 0; i < 16; ++i) w[i] = load_word(from + 4 * i);
}

void copy_state(State& to, const State& from) {
    for (size_t i = 0; i < 8; ++i) to[i] = from[i];
}

// FIPS 180-4, 6.2.2, step 3.
[[gnu::always_inline]] inline void one_round(uint32_t a, uint32_t b, uint32_t c, uint32_t& d, uint32_t e, uint32_t f,
                                             uint32_t g, uint32_t& h, uint32_t key) {
    const uint32_t sum1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
    const uint32_t sum0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
    const uint32_t choice = g ^ (e & (f ^ g));
    const uint32_t majority = b ^ ((a ^ b) & (b ^ c));
    const uint32_t t1 = h + sum1 + choice + key;
    d += t1;
    h = t1 + sum0 + majority;
}

// 64 rounds, then the addition of step 4. key(t) is K + W of round t, asked for in order.
template <class Key>
[[gnu::always_inline]] inline void all_rounds(State& state, Key key) {
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (size_t t = 0; t < 64; t += 8) {
        one_round(a, b, c, d, e, f, g, h, key(t));
        one_round(h, a, b, c, d, e, f, g, key(t + 1));
        one_round(g, h, a, b, c, d, e, f, key(t + 2));
        one_round(f, g, h, a, b, c, d, e, key(t + 3));
        one_round(e, f, g, h, a, b, c, d, key(t + 4));
        one_round(d, e, f, g, h, a, b, c, key(t + 5));
        one_round(c, d, e, f, g, h, a, b, key(t + 6));
        one_round(b, c, d, e, f, g, h, a, key(t + 7));
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

// Destroys w: the sixteen latest words of the message schedule.
void compress_words(State& state, uint32_t (&w)[16]) {
    all_rounds(state, [&w](size_t t) {
        uint32_t& word = w[t % 16];
        if (t >= 16) {
            const uint32_t low = w[(t + 1) % 16], high = w[(t + 14) % 16];
            const uint32_t sigma0 = std::rotr(low, 7) ^ std::rotr(low, 18) ^ (low >> 3);
            const uint32_t sigma1 = std::rotr(high, 17) ^ std::rotr(high, 19) ^ (high >> 10);
            word += sigma0 + w[(t + 9) % 16] + sigma1;
        }
        return kRoundKeys.word[t] + word;
    });
}

// SHA-256 of the digest that `first` is.
void hash_digest(uint8_t* out, const State& first) {
    uint32_t w[16] = {};
    for (size_t i = 0; i < 8; ++i) w[i] = first[i];
    w[8] = kPaddingStart;
    w[15] = kDigestBits;
    State state;
    copy_state(state, kInitialState);
    compress_words(state, w);
    for (size_t i = 0; i < 8; ++i) store_word(out + 4 * i, state[i]);
}

void double_blocks(uint8_t* out, const State& midstate, const uint8_t* in, size_t blocks, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        State state;
        copy_state(state, midstate);
        compress(state, in + i * blocks * kBlockBytes, blocks);
        hash_digest(out + i * kDigestBytes, state);
    }
}

void double_64(uint8_t* out, const uint8_t* in, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        State state;
        copy_state(state, kInitialState);
        compress(state, in + i * kBlockBytes, 1);
        all_rounds(state, [](size_t t) { return kNodePaddingKeys.word[t]; });
        hash_digest(out + i * kDigestBytes, state);
    }
}

}  // namespace

void compress(State& state, const uint8_t* data, size_t blocks) {
    for (size_t i = 0; i < blocks; ++i) {
        uint32_t w[16];
        load_block(w, data + i * kBlockBytes);
        compress_words(state, w);
    }
}

constinit const Backend kPortable{"portable", 1, double_blocks, double_64};

}  // namespace angara::sha256
