// What a swarm counts and measures. How it is told is Python's. Times are nanoseconds of the monotonic clock.
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace angara::swarm {

using Ns = uint64_t;
constexpr Ns kSecond = 1'000'000'000;
constexpr size_t kCodesMax = 32;      // different verdicts that are told apart; a server chooses them
constexpr size_t kReasonsMax = 32;    // different reasons of lost connections
constexpr size_t kWordsMax = 160;     // bytes of a server's words that are kept
constexpr size_t kBlocksMax = 10'000;  // new blocks that are measured

// 64 buckets for each power of two: percentiles are exact to 1.6 %.
class Histogram {
  public:
    Histogram() : buckets_(59 * kSub) {}

    void add(Ns ns) {
        ++buckets_[index_of(ns)];
        max_ns_ = std::max(max_ns_, ns);
    }

    // Those that are not empty: the longest that is counted in it, and how many.
    std::vector<std::pair<Ns, uint64_t>> buckets() const {
        std::vector<std::pair<Ns, uint64_t>> found;
        for (size_t i = 0; i < buckets_.size(); ++i) {
            if (buckets_[i] != 0) found.emplace_back(std::min(upper_ns(i), max_ns_), buckets_[i]);
        }
        return found;
    }

  private:
    static constexpr size_t kSub = 64;
    static size_t index_of(Ns ns) {
        if (ns < kSub) return static_cast<size_t>(ns);
        const auto shift = static_cast<size_t>(std::bit_width(ns)) - 7;
        return (shift + 1) * kSub + static_cast<size_t>(ns >> shift) - kSub;
    }
    static Ns upper_ns(size_t index) {
        if (index < kSub) return index;
        return ((kSub + index % kSub + 1) << (index / kSub - 1)) - 1;
    }

    std::vector<uint64_t> buckets_;
    Ns max_ns_ = 0;
};

// What a share is meant to be. In the order of the names in module.cpp.
enum class Kind : uint8_t { Good, Late, Duplicate, LowDifficulty, UnknownJob, WrongTime };
constexpr size_t kKinds = 6;

// A new previous block, and when the machines that mined already had their first work on it.
struct Block {
    Ns first_ns = 0, last_ns = 0;
    uint32_t reached = 0;
};

class Blocks {
  public:
    void reached(const std::array<uint8_t, 32>& prevhash, Ns now) {
        const std::string key(reinterpret_cast<const char*>(prevhash.data()), prevhash.size());
        if (numbers_.size() == kBlocksMax && !numbers_.contains(key)) return;
        const auto [at, is_new] = numbers_.try_emplace(key, list.size());
        if (is_new) list.push_back({now, now, 0});
        Block& block = list[at->second];
        ++block.reached;
        block.last_ns = now;
        delays.add(now - block.first_ns);
    }

    std::vector<Block> list;
    Histogram delays;  // of each machine behind the first

  private:
    std::unordered_map<std::string, size_t> numbers_;
};

struct Report {
    // By the code of the error, by the server's word where it has no code, or "accepted".
    std::array<std::map<std::string, uint64_t>, kKinds> verdicts;
    std::map<std::string, std::string> words;  // of each code, as they were first told
    Histogram latency, slow_latency;                       // from a share's way out to its answer; of slow readers
    Histogram found_after;                                 // from when a share was due until it was on its way
    Histogram first_job;                                   // from connect until there is work
    Blocks blocks;
    std::map<std::string, uint64_t> lost;  // connections, by reason
    uint64_t due = 0, submitted = 0, busy = 0, too_dear = 0, unanswered = 0, hashes = 0;
    uint64_t connects = 0, notifies = 0, notify_bytes = 0, bad_lines = 0, stray_replies = 0, pings = 0;
    uint64_t reconnects_asked = 0, reconnects_elsewhere = 0;
    Report begun_anew() {
        Report report;
        report.first_job = std::move(first_job);
        report.lost = std::move(lost);
        report.connects = connects;
        return report;
    }

    void accepted(Kind kind) { ++verdicts[static_cast<size_t>(kind)]["accepted"]; }

    void rejected(Kind kind, int code, std::string_view reason, std::string_view said) {
        std::string name =
            code != 0 || reason.empty() ? std::to_string(code) : std::string(reason.substr(0, kWordsMax));
        if (name == "accepted" || (words.size() == kCodesMax && !words.contains(name))) name = "other";
        ++verdicts[static_cast<size_t>(kind)][name];
        words.try_emplace(name, said.substr(0, kWordsMax));
    }

    void gone(std::string_view reason) {
        std::string key(reason.substr(0, kWordsMax));
        if (lost.size() == kReasonsMax && !lost.contains(key)) key = "other reasons";
        ++lost[key];
    }
};

}  // namespace angara::swarm
