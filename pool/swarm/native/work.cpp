// See work.hpp.
#include "work.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "sha256.hpp"
#include "wire.hpp"

namespace angara::swarm {

namespace {

constexpr size_t kBatch = 64;  // hashed at once where a share takes many
constexpr size_t kBlockBytes = 64, kHashBytes = 32;
constexpr size_t kParameters = 9;
constexpr double kHashesOfDifficulty1 = 4294967296.0 * 65536 / 65535;

void put_le32(uint8_t* out, uint32_t value) {
    for (size_t i = 0; i < 4; ++i) out[i] = static_cast<uint8_t>(value >> 8 * i);
}

void put_be64(uint8_t* out, uint64_t value) {
    for (size_t i = 0; i < 8; ++i) out[i] = static_cast<uint8_t>(value >> (56 - 8 * i));
}

// SHA-256d of any message.
void double_sha256(uint8_t* out, std::vector<uint8_t>& message) {
    const uint64_t bits = message.size() * 8;
    const size_t blocks = (message.size() + 8) / kBlockBytes + 1;
    message.push_back(0x80);
    message.resize(blocks * kBlockBytes, 0);
    put_be64(message.data() + message.size() - 8, bits);
    sha256::chosen().double_blocks(out, sha256::kInitialState, message.data(), blocks, 1);
}

std::array<uint8_t, kHashBytes> merkle_root(const Work& work, std::string_view extranonce2) {
    const Job& job = *work.job;
    std::vector<uint8_t> coinbase;
    for (const std::string_view part : {std::string_view(job.coinbase1), std::string_view(work.extranonce1),
                                        extranonce2, std::string_view(job.coinbase2)}) {
        coinbase.insert(coinbase.end(), part.begin(), part.end());
    }
    std::array<uint8_t, kHashBytes> root{};
    double_sha256(root.data(), coinbase);
    for (size_t at = 0; at < job.branch.size(); at += kHashBytes) {
        std::array<uint8_t, 2 * kHashBytes> node{};
        std::memcpy(node.data(), root.data(), kHashBytes);
        std::memcpy(node.data() + kHashBytes, job.branch.data() + at, kHashBytes);
        sha256::chosen().double_64(root.data(), node.data(), 1);
    }
    return root;
}

// A hash is a number whose least significant byte comes first.
bool meets(const uint8_t* hash, const Target& target) {
    for (size_t word = 4; word-- > 0;) {
        uint64_t value = 0;
        for (size_t i = 8; i-- > 0;) value = value << 8 | hash[word * 8 + i];
        if (value != target[word]) return value < target[word];
    }
    return true;
}

// Text between quotes that can be written between quotes again.
bool is_id(std::string_view text) {
    return !text.empty() && text.size() <= kJobIdMax &&
           std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c != '\x7f'; });
}

std::string read_job(std::string_view params, Job& job) {
    std::array<std::string_view, kParameters> given;
    Elements elements(params);
    std::string_view clean;  // the last of them, however many there are
    size_t count = 0;
    for (std::string_view value; elements.next(value); ++count) {
        if (count < kParameters) given[count] = value;
        clean = value;
    }
    if (count < kParameters) return "a job of too few parameters";
    job.id = unquoted(given[0]);
    if (!is_id(job.id)) return "a job without an id, or with a very long one";
    std::string prevhash;
    if (!bytes_of_hex(unquoted(given[1]), prevhash) || prevhash.size() != kHashBytes) return "a job's previous hash";
    for (size_t i = 0; i < kHashBytes; ++i) job.prevhash[i] = static_cast<uint8_t>(prevhash[i ^ 3]);  // words, swapped
    if (!bytes_of_hex(unquoted(given[2]), job.coinbase1)) return "a job's coinbase";
    if (!bytes_of_hex(unquoted(given[3]), job.coinbase2)) return "a job's coinbase";
    Elements branch(given[4]);
    for (std::string_view node; branch.next(node);) {
        const std::string_view hex = unquoted(node);
        const bool fits = hex.size() == 2 * kHashBytes && job.branch.size() < kBranchNodesMax * kHashBytes;
        if (!fits || !bytes_of_hex(hex, job.branch)) return "a job's merkle branch";
    }
    const auto version = uint32_of_hex(unquoted(given[5])), nbits = uint32_of_hex(unquoted(given[6]));
    const auto ntime = uint32_of_hex(unquoted(given[7]));
    if (!version || !nbits || !ntime) return "a job's version, nBits or time";
    job.version = *version;
    job.nbits = *nbits;
    job.ntime = *ntime;
    job.ntime_hex = unquoted(given[7]);
    job.clean = clean == "true";
    return "";
}

}  // namespace

Target target_from_difficulty(double difficulty) {
    // difficulty = mantissa * 2^exponent. 0xffff * 2^(208 + 64) divided by the mantissa, then moved.
    int exponent = 0;
    const auto mantissa = static_cast<uint64_t>(std::ldexp(std::frexp(difficulty, &exponent), 53));
    exponent -= 53;
    std::array<uint64_t, 5> quotient{};
    unsigned __int128 remainder = 0;
    for (size_t word = quotient.size(); word-- > 0;) {
        remainder = remainder << 64 | (word == 4 ? uint64_t{0xffff} << 16 : 0);
        quotient[word] = static_cast<uint64_t>(remainder / mantissa);
        remainder %= mantissa;
    }
    const int right = 64 + exponent;
    Target target{};
    for (int bit = 0; bit < 320; ++bit) {
        if ((quotient[static_cast<size_t>(bit / 64)] >> bit % 64 & 1) == 0) continue;
        const int to = bit - right;
        if (to >= 256) return {~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}};
        if (to >= 0) target[static_cast<size_t>(to / 64)] |= uint64_t{1} << to % 64;
    }
    return target;
}

double hashes_from_difficulty(double difficulty) { return std::max(1.0, difficulty * kHashesOfDifficulty1); }

std::shared_ptr<const Job> Jobs::read(std::string_view line, std::string_view params, std::string& problem) {
    auto job = std::make_unique<Job>();
    problem = read_job(params, *job);
    if (!problem.empty()) return nullptr;
    const size_t size = job->bytes();
    if (*bytes_ + size > kWorkBytesMax) {
        problem = "more work than there is memory for";
        return nullptr;
    }
    *bytes_ += size;
    last_line_ = line;
    last_ = std::shared_ptr<const Job>(job.release(), [bytes = bytes_, size](const Job* gone) {
        *bytes -= size;
        delete gone;
    });
    return last_;
}

void Search::begin(const Work& work, uint64_t extranonce2, uint32_t mask, uint32_t rolled_bits, uint32_t first_nonce) {
    extranonce2_size_ = work.extranonce2_size;
    if (extranonce2_size_ < 8) extranonce2 &= (uint64_t{1} << 8 * extranonce2_size_) - 1;
    extranonce2_ = extranonce2;
    std::array<char, kExtranonce2Max> bytes{};
    for (size_t i = 0; i < extranonce2_size_; ++i) {
        bytes[i] = static_cast<char>(extranonce2 >> 8 * (extranonce2_size_ - 1 - i));
    }
    const auto root = merkle_root(work, {bytes.data(), extranonce2_size_});
    const Job& job = *work.job;
    std::array<uint8_t, kBlockBytes> first{};
    put_le32(first.data(), (job.version & ~mask) | (rolled_bits & mask));
    std::memcpy(first.data() + 4, job.prevhash.data(), kHashBytes);
    std::memcpy(first.data() + 36, root.data(), 28);
    sha256::State state;
    std::copy(sha256::kInitialState, sha256::kInitialState + 8, state);
    sha256::compress(state, first.data(), 1);
    std::copy(state, state + 8, midstate_.begin());
    std::memcpy(tail_.data(), root.data() + 28, 4);
    put_le32(tail_.data() + 4, job.ntime);
    put_le32(tail_.data() + 8, job.nbits);
    rolled_bits_ = rolled_bits & mask;
    nonce_ = first_nonce;
    looked_at_ = 0;
    begun_ = true;
}

bool Search::step(const Target& target, double expected, uint64_t& hashes_left, uint32_t& nonce) {
    sha256::State state;
    std::copy(midstate_.begin(), midstate_.end(), state);
    alignas(64) std::array<uint8_t, kBatch * kBlockBytes> messages;
    alignas(64) std::array<uint8_t, kBatch * kHashBytes> hashes;
    const uint64_t batch = expected >= kBatch ? kBatch : static_cast<uint64_t>(expected);
    for (uint64_t i = 0; i < batch; ++i) {
        uint8_t* const message = messages.data() + i * kBlockBytes;
        std::memset(message, 0, kBlockBytes);
        std::memcpy(message, tail_.data(), tail_.size());
        message[16] = 0x80;
        put_be64(message + 56, 80 * 8);
    }
    while (hashes_left > 0) {
        if (looked_at_ > UINT32_MAX) {
            begun_ = false;
            return false;
        }
        const uint64_t count = std::min({batch, hashes_left, (uint64_t{1} << 32) - looked_at_});
        for (uint32_t i = 0; i < count; ++i) put_le32(messages.data() + i * kBlockBytes + 12, nonce_ + i);
        sha256::chosen().double_blocks(hashes.data(), state, messages.data(), 1, count);
        for (uint32_t i = 0; i < count; ++i) {
            nonce = nonce_ + i;
            if (!meets(hashes.data() + i * kHashBytes, target)) continue;
            nonce_ += i + 1;
            looked_at_ += i + 1;
            hashes_left -= i + 1;
            return true;
        }
        nonce_ += static_cast<uint32_t>(count);
        looked_at_ += count;
        hashes_left -= count;
    }
    return false;
}

std::string Search::extranonce2_hex() const {
    std::string text(2 * extranonce2_size_, '0');
    put_hex(text.data(), text.size(), extranonce2_);
    return text;
}

}  // namespace angara::swarm
