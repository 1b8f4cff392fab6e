// What a SHA-256d backend is tested against before it is used: headers, merkle nodes and hashes of the
// public Bitcoin chain. Internal to sha256.cpp. Three of each kind, and lanes come in powers of two: a
// backend that mixes up lanes meets a different message there.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace angara::sha256 {

template <size_t kBytes>
struct KnownHash {
    std::array<uint8_t, kBytes> message;  // padded, where the backend does not pad
    std::array<uint8_t, 32> digest;
};

constexpr uint8_t hex_digit(char c) { return static_cast<uint8_t>(c <= '9' ? c - '0' : c - 'a' + 10); }

template <size_t kBytes>
constexpr std::array<uint8_t, kBytes> from_hex(std::string_view hex) {
    if (hex.size() != 2 * kBytes) throw "wrong length";
    std::array<uint8_t, kBytes> bytes{};
    for (size_t i = 0; i < kBytes; ++i) {
        bytes[i] = static_cast<uint8_t>(hex_digit(hex[2 * i]) << 4 | hex_digit(hex[2 * i + 1]));
    }
    return bytes;
}

constexpr size_t kHeaderBytes = 80, kPaddedHeaderBytes = 128, kNodeBytes = 64;

// An 80-byte header with its padding: two blocks.
constexpr KnownHash<kPaddedHeaderBytes> header(std::string_view hex, std::string_view digest) {
    KnownHash<kPaddedHeaderBytes> known{{}, from_hex<32>(digest)};
    const auto bytes = from_hex<kHeaderBytes>(hex);
    for (size_t i = 0; i < kHeaderBytes; ++i) known.message[i] = bytes[i];
    known.message[kHeaderBytes] = 0x80;
    known.message[kPaddedHeaderBytes - 2] = kHeaderBytes * 8 >> 8;
    known.message[kPaddedHeaderBytes - 1] = kHeaderBytes * 8 & 0xff;
    return known;
}

// The headers of blocks 0, 1 and 2, and their hashes in the byte order of the digest.
constexpr std::array kKnownHeaders{
    header("0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e"
           "67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c",
           "6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000"),
    header("010000006fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000982051fd1e4ba744bbbe680e"
           "1fee14677ba1a3c3540bf7b1cdb606e857233e0e61bc6649ffff001d01e36299",
           "4860eb18bf1b1620e37e9490fc8a427514416fd75159ab86688e9a8300000000"),
    header("010000004860eb18bf1b1620e37e9490fc8a427514416fd75159ab86688e9a8300000000d5fdcc541e25de1c7a5added"
           "f24858b8bb665c9f36ef744ee42c316022c90f9bb0bc6649ffff001d08d2bd61",
           "bddd99ccfda39da1b108ce1a5d70038d0a967bacb68b6b63065f626a00000000"),
};

// The merkle tree of block 100000: four transactions, two nodes, the root.
constexpr std::array kKnownNodes{
    KnownHash<kNodeBytes>{from_hex<kNodeBytes>("876dd0a3ef4a2816ffd1c12ab649825a958b0ff3bb3d6f3e1250f13ddbf0148c"
                                               "c40297f730dd7b5a99567eb8d27b78758f607507c52292d02d4031895b52f2ff"),
                          from_hex<32>("15b88c5107195bf09eb9da89b83d95b3d070079a3c5c5d3d17d0dcd873fbdacc")},
    KnownHash<kNodeBytes>{from_hex<kNodeBytes>("c46e239ab7d28e2c019b6d66ad8fae98a56ef1f21aeecb94d1b1718186f05963"
                                               "1d0cb83721529a062d9675b98d6e5c587e4a770fc84ed00abc5a5de04568a6e9"),
                          from_hex<32>("49aef42d78e3e9999c9e6ec9e1dddd6cb880bf3b076a03be1318ca789089308e")},
    KnownHash<kNodeBytes>{from_hex<kNodeBytes>("15b88c5107195bf09eb9da89b83d95b3d070079a3c5c5d3d17d0dcd873fbdacc"
                                               "49aef42d78e3e9999c9e6ec9e1dddd6cb880bf3b076a03be1318ca789089308e"),
                          from_hex<32>("6657a9252aacd5c0b2940996ecff952228c3067cc38d4885efb5a4ac4247e9f3")},
};

}  // namespace angara::sha256
