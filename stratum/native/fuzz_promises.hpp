// What the fuzzer remembers of what an engine was told, and what the engine must keep to: who mined where,
// which shares may be handed out, and that every share is in one tally or handed out to be forwarded.
// Must not know: how inputs are read, how lines are fed.
#pragma once
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine.hpp"

namespace angara {

constexpr size_t kTips = 4;              // previous hashes, told apart by their first byte
constexpr int kKeepLog2 = -31;           // every second good share, of those that are the easiest
constexpr uint32_t kWorkersOfMiner = 4;  // worker numbers: the miner's times this, and one to three

inline void require(bool holds, const char* promise) {
    if (holds) return;
    std::fprintf(stderr, "broken: %s\n", promise);
    std::abort();
}

// What was asked for in a job, under whatever ids it is sent.
struct Published {
    uint64_t seq;
    uint32_t channel;
    uint8_t tip;
    bool blocks;  // every share is one, or none is
    std::optional<Number> forward_target;
};

class Promises {
  public:
    bool has_channel(uint32_t channel) const { return channels_.contains(channel); }
    void channel_added(uint32_t channel) { require(channels_.try_emplace(channel).second, "a channel is there once"); }
    void channel_removed(uint32_t channel) {
        const auto tip = channels_.at(channel).tip;
        channels_.erase(channel);
        if (tip) leave_tip(*tip);
    }

    void published(const Published& job, bool clean) {
        jobs_[job.seq] = job;
        Channel& channel = channels_.at(job.channel);
        if (clean) channel.stale_before = job.seq;
        const auto left = std::exchange(channel.tip, job.tip);
        if (left == job.tip) return;
        if (idle_tip_ == job.tip) idle_tip_.reset();
        if (left) leave_tip(*left);
    }
    void repeated(uint64_t seq, uint64_t of_seq) { jobs_.emplace(seq, jobs_.at(of_seq)); }
    void upstream_lost() { upstream_lost_ = true; }

    // The engine took it, or refused it.
    void subscribed(uint32_t miner, uint32_t channel, const std::string& extranonce1, size_t extranonce2_size,
                    uint64_t from_seq, bool taken) {
        std::vector<Places>& told = told_[miner];
        Places places = told.empty() ? Places{} : told.back();
        const bool forward = places.empty() || from_seq == 0 || from_seq >= places.back().from_seq;
        require(taken == (forward && has_channel(channel)), "a move goes forward, to a channel there is");
        if (!taken) return;
        if (from_seq == 0) places.clear();
        if (places.size() > kFormerPlacesMax) places.erase(places.begin());
        places.push_back({places.empty() ? 0 : from_seq, channel, extranonce1, extranonce2_size});
        told.push_back(std::move(places));
    }

    void judged(const Batch& batch) {
        for (size_t verdict = 0; verdict < kVerdicts; ++verdict) untallied_[verdict] += batch.verdicts[verdict];
        const uint64_t good = batch.verdicts[static_cast<size_t>(Verdict::kAccepted)] +
                              batch.verdicts[static_cast<size_t>(Verdict::kUndelivered)];
        rejects_earned_ += kRejectsPerAccepted * good;
        good_ += good;
        require(upstream_lost_ || batch.verdicts[static_cast<size_t>(Verdict::kUndelivered)] == 0,
                "a share is undelivered where an upstream was lost");
        for (const Found& found : batch.found) handed_out(found);
        for (auto& [_, told] : told_)  // what is fed from here on is judged by what was told last
            if (!told.empty()) told.erase(told.begin(), told.end() - 1);
    }

    // Since the last time.
    void kept(const std::vector<Kept>& shares) {
        require(shares.size() <= good_, "what is kept is a good share");
        good_ = 0;
        for (const Kept& share : shares) {
            std::array<uint8_t, 128> blocks{};
            std::ranges::copy(share.header, blocks.begin());
            blocks[80] = 0x80;
            blocks[126] = 0x02;
            blocks[127] = 0x80;
            Hash hash;
            sha256::chosen().double_blocks(hash.data(), sha256::kInitialState, blocks.data(), 2, 1);
            require(floor_log2(number_from(hash)) >= kKeepLog2, "what is kept is the work that it says");
        }
    }

    void taken(const std::vector<Tally>& tallies, const std::vector<Tally>& uncharged) {
        std::array<uint64_t, kVerdicts> counts{};
        for (const Tally& tally : tallies) {
            require(tally.worker != kNoWorker && tally.count > 0, "a tally has a worker and a count");
            counts.at(tally.verdict) += tally.count;
        }
        std::array<uint64_t, kVerdicts> others{};
        for (const Tally& tally : uncharged) others.at(tally.verdict) += tally.count;
        uint64_t charged = 0;
        for (size_t verdict = 0; verdict < kVerdicts; ++verdict) {
            const bool good = verdict == static_cast<size_t>(Verdict::kAccepted) ||
                              verdict == static_cast<size_t>(Verdict::kUndelivered);
            require(counts[verdict] + others[verdict] == untallied_[verdict] && (!good || others[verdict] == 0),
                    "every share is in one tally, or forwarded, and no good one among those that charge nobody");
            charged += good ? 0 : counts[verdict];
        }
        require(charged <= rejects_earned_, "who has no accepted share charges no worker with rejects");
        rejects_earned_ -= charged;
        untallied_.fill(0);
    }

  private:
    // Where a session mines from the job from_seq on.
    struct Place {
        uint64_t from_seq;
        uint32_t channel;
        std::string extranonce1;
        size_t extranonce2_size;
    };
    using Places = std::vector<Place>;  // oldest first
    struct Channel {
        std::optional<uint8_t> tip;
        uint64_t stale_before = 0;
    };

    // What was forwarded on a tip is remembered while a channel mines on it, and after that until all
    // channels have left another one.
    void leave_tip(uint8_t left) {
        for (const auto& [_, channel] : channels_)
            if (channel.tip == left) return;
        if (idle_tip_) forwarded_[*idle_tip_].clear();
        idle_tip_ = left;
    }

    void handed_out(const Found& found) {
        const Published& job = jobs_.at(found.seq);
        require(job.channel == found.channel, "what was found names the channel of its job");
        const auto was_there = [&](const Places& places) { return matches(places, found); };
        require(std::ranges::any_of(told_.at(found.worker / kWorkersOfMiner), was_there),
                "a share is judged by where its session was by then");
        const bool news = !job.blocks || blocks_.insert(found.hash).second;
        if (found.tallied) {
            require(job.blocks && news, "what is handed out and tallied is a block, once");
            return;
        }
        --untallied_[0];
        require(job.forward_target && (job.blocks || number_from(found.hash)[3] <= (*job.forward_target)[3]),
                "what is forwarded meets a target");
        const auto channel = channels_.find(job.channel);
        require(channel != channels_.end() && channel->second.tip == job.tip && job.seq >= channel->second.stale_before,
                "what is forwarded is not stale");
        require(forwarded_[job.tip].insert(found.hash).second, "a share is forwarded once");
    }

    static bool matches(const Places& places, const Found& found) {
        const Place* at = nullptr;
        for (const Place& place : places)
            if (place.from_seq <= found.seq) at = &place;
        return at && at->channel == found.channel && at->extranonce2_size == found.extranonce2_size &&
               at->extranonce1.size() == found.extranonce1_size &&
               std::equal(at->extranonce1.begin(), at->extranonce1.end(), found.extranonce1.begin());
    }

    bool upstream_lost_ = false;
    std::map<uint32_t, Channel> channels_;
    std::map<uint64_t, Published> jobs_;  // by the id that they were sent under
    // By miner: the places it was told of last, before them those that queued shares were fed under.
    std::map<uint32_t, std::vector<Places>> told_;
    std::array<uint64_t, kVerdicts> untallied_{};  // judged, not forwarded, and in no tally that was taken
    uint64_t rejects_earned_ = 0;                  // by all sessions together
    uint64_t good_ = 0;                            // since what was kept was taken
    std::set<Hash> blocks_;                        // handed out
    std::array<std::set<Hash>, kTips> forwarded_;
    std::optional<uint8_t> idle_tip_;  // the last one that all channels have left
};

}  // namespace angara
