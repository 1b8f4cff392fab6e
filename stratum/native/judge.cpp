// The other half of the engine: hashes what was queued, judges it, answers it and counts it.
#include <algorithm>
#include <cstring>
#include <functional>

#include "engine.hpp"

namespace angara {
namespace {

// What follows the id of a reply. Codes as in the Stratum V1 convention: 20 other, 21 job, 22 duplicate,
// 23 low, 24 worker, 25 subscribe.
constexpr std::array<std::string_view, kVerdicts> kAnswers{
    ",\"result\":true,\"error\":null}\n",
    ",\"result\":null,\"error\":[20,\"Malformed share\",null]}\n",
    ",\"result\":null,\"error\":[25,\"Not subscribed\",null]}\n",
    ",\"result\":null,\"error\":[24,\"Unauthorized worker\",null]}\n",
    ",\"result\":null,\"error\":[21,\"Job not found\",null]}\n",
    ",\"result\":null,\"error\":[21,\"Stale share\",null]}\n",
    ",\"result\":null,\"error\":[20,\"ntime out of range\",null]}\n",
    ",\"result\":null,\"error\":[20,\"Version bits outside the mask\",null]}\n",
    ",\"result\":null,\"error\":[23,\"Low difficulty share\",null]}\n",
    ",\"result\":null,\"error\":[22,\"Duplicate share\",null]}\n",
    ",\"result\":null,\"error\":[20,\"Share not counted, try again\",null]}\n",
    ",\"result\":true,\"error\":null}\n",
};

bool at_most(const Number& a, const Number& b) {
    for (size_t i = 4; i-- > 0;)
        if (a[i] != b[i]) return a[i] < b[i];
    return true;
}

// The largest hash of a share of difficulty 2^difficulty_log2: 0xffff * 2^(208 - difficulty_log2).
constexpr Number share_target(int difficulty_log2) {
    Number number{};
    for (int bit = 0; bit < 16; ++bit) {
        const auto at = static_cast<size_t>(208 - difficulty_log2 + bit);
        number[at / 64] |= uint64_t{1} << at % 64;
    }
    return number;
}
constexpr auto kShareTargets = [] {
    std::array<Number, kDifficultyLog2Max - kDifficultyLog2Min + 1> targets{};
    for (int i = kDifficultyLog2Min; i <= kDifficultyLog2Max; ++i)
        targets[static_cast<size_t>(i - kDifficultyLog2Min)] = share_target(i);
    return targets;
}();

void put_u32_le(uint8_t* out, uint32_t value) {
    for (int i = 0; i < 4; ++i) out[i] = static_cast<uint8_t>(value >> 8 * i);
}

void write_header(uint8_t* out, const Job& job, uint32_t version, const uint8_t* merkle_root, uint32_t ntime,
                  uint32_t nonce) {
    put_u32_le(out, version);
    std::memcpy(out + 4, job.prevhash.data(), 32);
    std::memcpy(out + 36, merkle_root, 32);
    put_u32_le(out + 68, ntime);
    put_u32_le(out + 72, job.nbits);
    put_u32_le(out + 76, nonce);
}

// BIP 310: the miner chooses the bits of the mask. Bits outside it are hashed too: the share is refused for
// them, but what was hashed may be a block.
uint32_t version_of(uint32_t version, uint32_t mask, uint32_t rolled) { return (version & ~mask) | rolled; }

// How hard what a hash reaches is: a block above a share, and of two shares the one that an upstream takes.
int reach_of(const Job& job, int difficulty_log2, const Hash& hash) {
    const Number number = number_from(hash);
    const bool share = at_most(number, kShareTargets[static_cast<size_t>(difficulty_log2 - kDifficultyLog2Min)]);
    const bool forward = job.forward_target && at_most(number, *job.forward_target);
    return 4 * at_most(number, job.network_target) + 2 * share + forward;
}

}  // namespace

int8_t floor_log2(const Number& target) {
    size_t i = kShareTargets.size() - 1;
    while (i > 0 && !at_most(target, kShareTargets[i])) --i;
    return static_cast<int8_t>(static_cast<int>(i) + kDifficultyLog2Min);
}

void Batch::clear() {
    replies.clear();
    bytes.clear();
    found.clear();
    retarget.clear();
    verdicts.fill(0);
}

// Fills hashes_ for every share that has a job, whole groups on one job at a time.
void Engine::hash_queue() {
    order_.clear();
    for (uint32_t i = 0; i < queue_.size(); ++i)
        if (queue_[i].job) order_.push_back(i);
    const auto job_of = [&](uint32_t i) { return queue_[i].job; };
    if (!std::ranges::is_sorted(order_, std::less(), job_of)) std::ranges::sort(order_, std::less(), job_of);
    if (hashes_.size() < queue_.size()) hashes_.resize(queue_.size());
    if (keep_log2_ && merkle_roots_.size() < queue_.size()) merkle_roots_.resize(queue_.size());
    for (size_t begin = 0, end = 0; begin < order_.size(); begin = end) {
        const Job* const job = job_of(order_[begin]);
        while (end < order_.size() && end - begin < kChunk && job_of(order_[end]) == job) ++end;
        const auto group = std::span(order_).subspan(begin, end - begin);
        hash_group(group);
        if (const Channel* const channel = live_channel(*job))
            for (const uint32_t i : group) channel->tip->filter.fetch(hashes_[i].data());
    }
}

// All shares of `group` are on one job.
void Engine::hash_group(std::span<const uint32_t> group) {
    const Job& job = *queue_[group[0]].job;
    const size_t n = group.size(), tail_size = job.tail.size();
    for (size_t i = 0; i < n; ++i) {
        const Share& share = queue_[group[i]];
        uint8_t* tail = blocks_.data() + i * tail_size;
        std::memcpy(tail, job.tail.data(), tail_size);
        uint8_t* extranonce = tail + job.extranonce_at;
        std::memcpy(extranonce, share.extranonce1.data(), share.extranonce1_size);
        std::memcpy(extranonce + share.extranonce1_size, share.extranonce2.data(), share.extranonce2_size);
    }
    backend_.double_blocks(roots_.data(), job.midstate, blocks_.data(), tail_size / 64, n);
    for (size_t level = 0; level < job.branch.size(); level += 32) {
        for (size_t i = 0; i < n; ++i) {
            std::memcpy(nodes_.data() + 64 * i, roots_.data() + 32 * i, 32);
            std::memcpy(nodes_.data() + 64 * i + 32, job.branch.data() + level, 32);
        }
        backend_.double_64(roots_.data(), nodes_.data(), n);
    }
    if (keep_log2_)
        for (size_t i = 0; i < n; ++i) std::memcpy(merkle_roots_[group[i]].data(), roots_.data() + 32 * i, 32);
    for (size_t i = 0; i < n; ++i) {
        Share& share = queue_[group[i]];
        share.version = version_of(job.version, share.version_mask, share.rolled);
        uint8_t* header = blocks_.data() + 128 * i;
        write_header(header, job, share.version, roots_.data() + 32 * i, share.ntime, share.nonce);
        std::memset(header + 80, 0, 48);
        header[80] = 0x80;
        header[126] = 0x02;  // 640 bits
        header[127] = 0x80;
    }
    backend_.double_blocks(roots_.data(), sha256::kInitialState, blocks_.data(), 2, n);
    for (size_t i = 0; i < n; ++i) std::memcpy(hashes_[group[i]].data(), roots_.data() + 32 * i, 32);
    hash_differences(group);
}

// Some firmware sends the difference to the job's version in place of the bits that it chose. That is another
// header where the job's version has bits inside the mask, as an upstream's may: the share is then the one of
// the two that reaches more, and the one of BIP 310 where they reach as much. blocks_ has the group's headers.
void Engine::hash_differences(std::span<const uint32_t> group) {
    const Job& job = *queue_[group[0]].job;
    std::array<uint32_t, kChunk> asked;
    size_t n = 0;
    for (size_t i = 0; i < group.size(); ++i) {
        const Share& share = queue_[group[i]];
        const uint32_t version = job.version ^ share.rolled;
        if (version == share.version || (share.rolled & ~share.version_mask) != 0) continue;
        uint8_t* header = blocks_.data() + 128 * n;
        if (n < i) std::memcpy(header, blocks_.data() + 128 * i, 128);
        put_u32_le(header, version);
        asked[n++] = group[i];
    }
    if (n == 0) return;
    backend_.double_blocks(roots_.data(), sha256::kInitialState, blocks_.data(), 2, n);
    for (size_t i = 0; i < n; ++i) {
        Share& share = queue_[asked[i]];
        Hash hash;
        std::memcpy(hash.data(), roots_.data() + 32 * i, 32);
        if (reach_of(job, share.difficulty_log2, hash) <= reach_of(job, share.difficulty_log2, hashes_[asked[i]]))
            continue;
        share.version = job.version ^ share.rolled;
        hashes_[asked[i]] = hash;
    }
}

// The channel of the job, where that is still there and mines on the job's tip; otherwise the job is stale.
Engine::Channel* Engine::live_channel(const Job& job) {
    const auto found = channels_.find(job.channel);
    if (found == channels_.end()) return nullptr;
    Channel& channel = found->second;
    return channel.tip && channel.tip->number == job.tip && job.seq >= channel.stale_before ? &channel : nullptr;
}

void Engine::validate(Batch& batch) {
    batch.clear();
    hash_queue();
    for (size_t i = 0; i < queue_.size(); ++i) judge(i, batch);

    queue_.clear();
    ids_.clear();
    retired_jobs_.clear();
    if (!retired_tables_.empty()) retired_tables_.pop_back();
    free_slots_.insert(free_slots_.end(), closing_.begin(), closing_.end());
    closing_.clear();
}

void Engine::judge(size_t at, Batch& batch) {
    const Share& share = queue_[at];
    const Hash& hash = hashes_[at];
    Verdict verdict = share.verdict;
    bool tallied = true;
    if (share.job) {
        const Number number = number_from(hash);
        const bool block = at_most(number, share.job->network_target);
        verdict = judge_hashed(share, number, block, hash);
        const bool good = verdict == Verdict::kAccepted || verdict == Verdict::kUndelivered;
        const auto& forward_target = share.job->forward_target;
        tallied = !(good && forward_target && (block || at_most(number, *forward_target)));
        if (!tallied) verdict = Verdict::kAccepted;  // whoever it goes to will know whether it was delivered
        if (good && forward_target && keep_credits_) keep_credit(share, verdict, !tallied, hash);
        if (good && keep_log2_ && at_most(number, kShareTargets[static_cast<size_t>(*keep_log2_ - kDifficultyLog2Min)]))
            keep_share(share, merkle_roots_[at]);
        if ((block && is_news(hash)) || !tallied) hand_out(share, hash, tallied, batch);
    }
    ++batch.verdicts[static_cast<size_t>(verdict)];
    count(share, verdict, tallied, batch);
    reply(share, verdict, batch);
}

Verdict Engine::judge_hashed(const Share& share, const Number& number, bool block, const Hash& hash) {
    const Job& job = *share.job;
    const Channel* const channel = live_channel(job);
    if (!channel) return Verdict::kStale;
    if (share.ntime < job.ntime_min || share.ntime > job.ntime_max) return Verdict::kNtime;
    if ((share.rolled & ~share.version_mask) != 0) return Verdict::kVersion;
    // Where the share target is harder than the network's (regtest), a block is a share: its price is
    // capped at one block for the same reason. Not where somebody else says what a block is: an upstream that
    // names an easy target would have work credited that nobody did.
    const Number& target = kShareTargets[static_cast<size_t>(share.difficulty_log2 - kDifficultyLog2Min)];
    const bool by_block = block && !job.forward_target;
    if (!by_block && !at_most(number, target)) return Verdict::kLowDifficulty;
    switch (channel->tip->filter.insert(hash.data())) {
        case DuplicateFilter::Result::kNew: break;
        case DuplicateFilter::Result::kDuplicate: return Verdict::kDuplicate;
        case DuplicateFilter::Result::kFull: return Verdict::kFilterFull;
    }
    return job.seq < channel->undelivered_before ? Verdict::kUndelivered : Verdict::kAccepted;
}

void Engine::keep_credit(const Share& share, Verdict verdict, bool forwarded, const Hash& hash) {
    const Hash& prevhash = share.job->prevhash;
    auto credits = std::ranges::find(credits_, prevhash, &Credits::prevhash);
    if (credits == credits_.end()) credits = credits_.insert(credits_.end(), Credits{prevhash, {}});
    Credit& credit = credits->shares.emplace_back();
    std::copy_n(hash.begin(), credit.key.size(), credit.key.begin());
    credit.worker = share.worker;
    credit.rate = share.job->rate;
    credit.difficulty_log2 = credited_log2(share);
    credit.verdict = static_cast<uint8_t>(verdict);
    credit.forwarded = forwarded ? 1 : 0;
    credit_bytes_ += sizeof(Credit);
}

void Engine::keep_share(const Share& share, const Hash& merkle_root) {
    Kept& kept = kept_.emplace_back();
    write_header(kept.header.data(), *share.job, share.version, merkle_root.data(), share.ntime, share.nonce);
    kept.worker = share.worker;
    kept.rate = share.job->rate;
    kept.difficulty_log2 = credited_log2(share);
    kept.zero = {};
}

// A block is handed out once, however often and with whatever verdict it is sent.
bool Engine::is_news(const Hash& hash) {
    if (std::ranges::find(recent_solutions_, hash) != recent_solutions_.end()) return false;
    if (recent_solutions_.size() < kRecentSolutionsMax) {
        recent_solutions_.push_back(hash);
    } else {
        recent_solutions_[recent_at_] = hash;
        recent_at_ = (recent_at_ + 1) % kRecentSolutionsMax;
    }
    return true;
}

void Engine::hand_out(const Share& share, const Hash& hash, bool tallied, Batch& batch) {
    Found& found = batch.found.emplace_back();
    found.worker = share.worker;
    found.channel = share.job->channel;
    found.seq = share.seq;
    found.extranonce1 = share.extranonce1;
    found.extranonce2 = share.extranonce2;
    found.extranonce1_size = share.extranonce1_size;
    found.extranonce2_size = share.extranonce2_size;
    found.ntime = share.ntime;
    found.nonce = share.nonce;
    found.version = share.version;
    found.hash = hash;
    found.difficulty_log2 = share.difficulty_log2;
    found.tallied = tallied;
}

// Whether a rejected share is charged to the worker that it names: then that is one less to be charged.
bool Engine::charge(Session& session, uint32_t worker) {
    const auto named = std::ranges::find(session.workers, worker, &Worker::worker);
    if (named == session.workers.end() || named->rejects_earned == 0) return false;
    --named->rejects_earned;
    return true;
}

// In one of the tallies, and in the session's counters while it is open.
// At what it is credited.
int8_t Engine::credited_log2(const Share& share) {
    const int8_t most = share.job ? share.job->credit_log2_max : int8_t{kDifficultyLog2Max};
    return std::min(share.difficulty_log2, most);
}

void Engine::count(const Share& share, Verdict verdict, bool tallied, Batch& batch) {
    Session* const session = sessions_[share.session] ? &*sessions_[share.session] : nullptr;
    const bool good = verdict == Verdict::kAccepted || verdict == Verdict::kUndelivered;
    const bool charged = good ? tallied && share.worker != kNoWorker : session && charge(*session, share.worker);
    if (charged) {
        const uint32_t rate = share.job ? share.job->rate : 0;
        tallies_.add({share.worker, rate, credited_log2(share), static_cast<uint8_t>(verdict), 0, 0});
    } else if (!good) {
        uncharged_.add({share.worker, 0, 0, static_cast<uint8_t>(verdict), 0, 0});
    }
    if (!session) return;
    if (!good) {
        ++session->counters.rejected;
        session->counters.unearned += charged ? 0 : 1;
        return;
    }
    ++session->counters.accepted;
    session->counters.rolled |= share.rolled;
    const auto named = std::ranges::find(session->workers, share.worker, &Worker::worker);
    if (named != session->workers.end())
        named->rejects_earned = std::min(named->rejects_earned + kRejectsPerAccepted, kRejectsEarnedMax);
    // A share may be of work from before the difficulty changed.
    const std::vector<Pin>& pins = session->place.pins;
    if (pins.empty() || pins.back().difficulty_log2 != share.difficulty_log2) return;
    ++session->counters.at_difficulty;
    if (session->retarget_after == 0 || session->retarget_due ||
        session->counters.at_difficulty < session->retarget_after)
        return;
    session->retarget_due = true;
    batch.retarget.push_back(share.session);
}

void Engine::reply(const Share& share, Verdict verdict, Batch& batch) const {
    const size_t begin = batch.bytes.size();
    batch.bytes.append("{\"id\":").append(ids_, share.id_at, share.id_size);
    batch.bytes.append(kAnswers[static_cast<size_t>(verdict)]);
    if (!batch.replies.empty() && batch.replies.back().session == share.session)
        batch.replies.back().end = batch.bytes.size();
    else
        batch.replies.push_back({share.session, begin, batch.bytes.size()});
}

}  // namespace angara
