#include "engine.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>

namespace angara {
namespace {

constexpr size_t kChunk = 64;  // shares hashed in lockstep: four times the widest lanes, and stays in cache

struct Answer {
    int code;
    const char* text;
};
// Codes as in the Stratum V1 convention: 20 other, 21 job, 22 duplicate, 23 low, 24 worker, 25 subscribe.
constexpr std::array<Answer, kVerdicts> kAnswers{{
    {0, ""},
    {20, "Malformed share"},
    {25, "Not subscribed"},
    {24, "Unauthorized worker"},
    {21, "Job not found"},
    {21, "Stale share"},
    {20, "ntime out of range"},
    {20, "Version bits outside the mask"},
    {23, "Low difficulty share"},
    {22, "Duplicate share"},
    {20, "Share not counted, try again"},
}};

Number number_from_hash(const uint8_t* hash) {  // little-endian, as a hash is read
    Number number{};
    for (size_t i = 0; i < 32; ++i) number[i / 8] |= uint64_t{hash[i]} << 8 * (i % 8);
    return number;
}

bool at_most(const Number& a, const Number& b) {
    for (size_t i = 4; i-- > 0;)
        if (a[i] != b[i]) return a[i] < b[i];
    return true;
}

Number shifted_diff1(int shift_left) {  // 0xffff * 2^(208 + shift_left)
    Number number{};
    const int at = 208 + shift_left;
    for (int bit = 0; bit < 16; ++bit) {
        const int where = at + bit;
        if (where >= 0 && where < 256) number[static_cast<size_t>(where / 64)] |= uint64_t{1} << where % 64;
    }
    return number;
}

void put_u32_le(uint8_t* out, uint32_t value) {
    for (int i = 0; i < 4; ++i) out[i] = static_cast<uint8_t>(value >> 8 * i);
}

// SHA-256 padding of a message of message_size bytes, appended to its last bytes.
void pad(std::vector<uint8_t>& tail, uint64_t message_size) {
    tail.push_back(0x80);
    while (tail.size() % 64 != 56) tail.push_back(0);
    for (int i = 7; i >= 0; --i) tail.push_back(static_cast<uint8_t>(message_size * 8 >> 8 * i));
}

}  // namespace

void Batch::clear() {
    replies.clear();
    bytes.clear();
    solutions.clear();
    retarget.clear();
    verdicts.fill(0);
}

Engine::Engine(size_t line_bytes_max, const sha256::Backend& backend, size_t duplicates_max)
    : line_bytes_max_(line_bytes_max), backend_(backend), duplicates_max_(duplicates_max) {
    for (int log2 = kDifficultyLog2Min; log2 <= kDifficultyLog2Max; ++log2)
        share_targets_[static_cast<size_t>(log2 - kDifficultyLog2Min)] = shifted_diff1(-log2);
    hashes_.resize(kChunk);
    nodes_.resize(kChunk * 64);
    roots_.resize(kChunk * 32);
    blocks_.resize(kChunk * 128);
}

Engine::Session& Engine::session_at(uint32_t session) {
    if (session >= sessions_.size() || !sessions_[session].open) throw std::out_of_range("no such session");
    return sessions_[session];
}

Engine::Channel& Engine::channel_at(uint32_t channel) {
    const auto found = channels_.find(channel);
    if (found == channels_.end()) throw std::out_of_range("no such channel");
    return found->second;
}

void Engine::add_channel(uint32_t channel) {
    if (channels_.size() >= kChannelsMax) throw std::length_error("too many channels");
    if (!channels_.try_emplace(channel, duplicates_max_).second) throw std::invalid_argument("channel exists");
}

void Engine::remove_channel(uint32_t channel) {
    for (auto& entry : channel_at(channel).jobs) retired_jobs_.push_back(std::move(entry.second));
    channels_.erase(channel);
}

void Engine::add_job(Job job, std::string_view coinbase1, std::string_view coinbase2, size_t extranonce_size) {
    Channel& channel = channel_at(job.channel);
    const size_t size = coinbase1.size() + extranonce_size + coinbase2.size();
    if (size > kCoinbaseMax) throw std::invalid_argument("coinbase is too long");
    if (extranonce_size > 2 * kExtranonceMax) throw std::invalid_argument("extranonce is too long");
    if (job.branch.size() % 32 != 0 || job.branch.size() > 32 * kBranchMax)
        throw std::invalid_argument("merkle branch has a wrong length");
    if (!channel.jobs.empty() && job.seq <= channel.jobs.back().first)
        throw std::invalid_argument("job seq must grow");

    const size_t whole = coinbase1.size() / 64;
    std::memcpy(job.midstate, sha256::kInitialState, sizeof job.midstate);
    sha256::compress(job.midstate, reinterpret_cast<const uint8_t*>(coinbase1.data()), whole);
    const std::string_view rest = coinbase1.substr(64 * whole);
    job.tail.assign(rest.begin(), rest.end());
    job.extranonce_at = rest.size();
    job.extranonce_size = extranonce_size;
    job.tail.resize(rest.size() + extranonce_size);
    job.tail.insert(job.tail.end(), coinbase2.begin(), coinbase2.end());
    pad(job.tail, size);
    if (blocks_.size() < kChunk * job.tail.size()) blocks_.resize(kChunk * job.tail.size());

    if (job.prevhash != channel.prevhash) {
        for (auto& [seq, earlier] : channel.jobs) earlier->stale = true;
        channel.filter.clear();
        channel.prevhash = job.prevhash;
    }
    const uint64_t seq = job.seq;
    channel.jobs.emplace_back(seq, std::make_shared<Job>(std::move(job)));
    if (channel.jobs.size() > kJobsPerChannelMax) drop_jobs(channel, 1);
}

void Engine::add_alias(uint32_t channel_id, uint64_t seq, uint64_t of_seq) {
    Channel& channel = channel_at(channel_id);
    if (channel.jobs.empty() || seq <= channel.jobs.back().first) throw std::invalid_argument("job seq must grow");
    const auto found = std::find_if(channel.jobs.begin(), channel.jobs.end(),
                                    [&](const auto& entry) { return entry.first == of_seq; });
    if (found == channel.jobs.end()) throw std::out_of_range("no such job");
    channel.jobs.emplace_back(seq, std::shared_ptr<Job>(found->second));
    if (channel.jobs.size() > kJobsPerChannelMax) drop_jobs(channel, 1);
}

void Engine::drop_jobs(Channel& channel, size_t count) {
    for (size_t i = 0; i < count; ++i) retired_jobs_.push_back(std::move(channel.jobs[i].second));
    channel.jobs.erase(channel.jobs.begin(), channel.jobs.begin() + static_cast<std::ptrdiff_t>(count));
}

void Engine::drop_jobs_before(uint32_t channel_id, uint64_t seq) {
    Channel& channel = channel_at(channel_id);
    size_t count = 0;
    while (count < channel.jobs.size() && channel.jobs[count].first < seq) ++count;
    drop_jobs(channel, count);
}

uint32_t Engine::open_session() {
    uint32_t slot;
    if (!free_slots_.empty()) {
        slot = free_slots_.back();
        free_slots_.pop_back();
    } else {
        if (sessions_.size() >= kSessionsMax) throw std::length_error("too many sessions");
        slot = static_cast<uint32_t>(sessions_.size());
        sessions_.emplace_back();
    }
    sessions_[slot] = Session{};
    sessions_[slot].open = true;
    return slot;
}

void Engine::close_session(uint32_t session) {
    session_at(session) = Session{};
    closing_.push_back(session);  // its shares in the queue are still judged: the slot is free after that
}

void Engine::subscribe(uint32_t session, uint32_t channel, std::string_view extranonce1,
                       size_t extranonce2_size) {
    Session& s = session_at(session);
    channel_at(channel);
    if (extranonce1.empty() || extranonce1.size() > kExtranonceMax || extranonce2_size == 0 ||
        extranonce2_size > kExtranonceMax)
        throw std::invalid_argument("extranonce has a wrong length");
    if (s.channel != channel) s.pins.clear();
    s.subscribed = true;
    s.channel = channel;
    s.extranonce1_size = static_cast<uint8_t>(extranonce1.size());
    s.extranonce2_size = static_cast<uint8_t>(extranonce2_size);
    std::memcpy(s.extranonce1.data(), extranonce1.data(), extranonce1.size());
}

void Engine::authorise(uint32_t session, std::string_view name, uint32_t worker) {
    Session& s = session_at(session);
    if (worker == kNoWorker) throw std::invalid_argument("worker 0 is nobody");
    if (name.size() > kWorkerNameMax) throw std::invalid_argument("worker name is too long");
    for (Worker& known : s.workers) {
        if (known.name != name) continue;
        known.worker = worker;
        return;
    }
    if (s.workers.size() >= kWorkersPerSessionMax) throw std::length_error("too many workers on one session");
    s.workers.push_back({std::string(name), worker});
}

void Engine::set_version_mask(uint32_t session, uint32_t mask) { session_at(session).version_mask = mask; }

void Engine::pin_difficulty(uint32_t session, int difficulty_log2, uint64_t from_seq) {
    Session& s = session_at(session);
    if (difficulty_log2 < kDifficultyLog2Min || difficulty_log2 > kDifficultyLog2Max)
        throw std::invalid_argument("difficulty out of range");
    while (!s.pins.empty() && s.pins.back().from_seq >= from_seq) s.pins.pop_back();
    if (s.pins.size() >= kPinsMax) s.pins.erase(s.pins.begin());
    s.pins.push_back({from_seq, static_cast<int8_t>(difficulty_log2)});
    s.counters.at_difficulty = 0;
    s.retarget_due = false;
}

void Engine::set_retarget_after(uint32_t session, uint32_t accepted_shares) {
    Session& s = session_at(session);
    s.retarget_after = accepted_shares;
    s.retarget_due = false;
}

size_t Engine::duplicates(uint32_t channel) const { return channels_.at(channel).filter.size(); }

Fed Engine::feed(uint32_t session, std::string_view data, std::string_view& line) {
    Session& s = session_at(session);
    const bool buffered = !s.buffer.empty();
    if (buffered) {
        if (s.read_at > 0) {  // what Python had in hand is done with
            s.buffer.erase(0, s.read_at);
            s.read_at = 0;
        }
        s.buffer.append(data);
        data = s.buffer;
    }
    size_t at = 0;
    Fed fed = Fed::kDone;
    while (at < data.size()) {
        const void* found = std::memchr(data.data() + at, '\n', data.size() - at);
        const size_t size = found ? static_cast<size_t>(static_cast<const char*>(found) - data.data()) - at
                                  : data.size() - at;
        if (size > line_bytes_max_) {
            fed = Fed::kLineTooLong;
            break;
        }
        if (!found) break;
        const std::string_view text = data.substr(at, size);
        at += size + 1;
        if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
        if (const auto submit_in_line = parse_submit(text)) {
            submit(session, *submit_in_line);
            continue;
        }
        line = text;
        fed = Fed::kLine;
        break;
    }
    if (fed == Fed::kLineTooLong) {
        s.buffer = std::string();
    } else if (fed == Fed::kLine && !buffered) {  // line must stay valid: keep it at the buffer's front
        const size_t start = static_cast<size_t>(line.data() - data.data());
        s.buffer.assign(data.substr(start));
        line = std::string_view(s.buffer).substr(0, line.size());
        s.read_at = at - start;
    } else if (fed == Fed::kLine) {
        s.read_at = at;
    } else if (at == data.size()) {
        if (buffered) s.buffer = std::string();  // most sessions never hold a partial line: give it back
    } else if (buffered) {
        s.buffer.erase(0, at);
    } else {
        s.buffer.assign(data.substr(at));
    }
    return fed;
}

const Engine::Worker* Engine::find_worker(const Session& session, std::string_view name) const {
    for (const Worker& worker : session.workers)
        if (worker.name == name) return &worker;
    const Worker* cut = nullptr;
    if (name.size() != kWorkerNameCut) return nullptr;
    for (const Worker& worker : session.workers) {
        if (!std::string_view(worker.name).starts_with(name)) continue;
        if (cut) return nullptr;  // two workers alike up to the cut: not ours to guess
        cut = &worker;
    }
    return cut;
}

Verdict Engine::resolve(const Session& session, const Submit& submit, Share& share) const {
    if (!session.subscribed) return Verdict::kNotSubscribed;
    const auto& [worker_name, job_id, extranonce2, ntime, nonce, version] = submit.params;
    const Worker* worker = find_worker(session, worker_name.text);
    if (worker) share.worker = worker->worker;
    const auto ntime_value = read_u32(ntime), nonce_value = read_u32(nonce);
    const auto rolled = submit.count == 6 ? read_u32(version) : std::optional<uint32_t>(0);
    if (!ntime_value || !nonce_value || !rolled ||
        !read_bytes(extranonce2, share.extranonce2.data(), session.extranonce2_size))
        return Verdict::kMalformed;
    if (!worker) return Verdict::kUnauthorised;
    share.ntime = *ntime_value;
    share.nonce = *nonce_value;
    share.rolled = *rolled;
    share.version_mask = submit.count == 6 ? session.version_mask : 0;
    share.extranonce1 = session.extranonce1;
    share.extranonce1_size = session.extranonce1_size;
    share.extranonce2_size = session.extranonce2_size;

    const auto seq = read_job_id(job_id);
    const auto channel = channels_.find(session.channel);
    if (!seq || channel == channels_.end()) return Verdict::kJobUnknown;
    const auto& jobs = channel->second.jobs;
    const auto entry = std::lower_bound(jobs.begin(), jobs.end(), *seq,
                                        [](const auto& job, uint64_t wanted) { return job.first < wanted; });
    if (entry == jobs.end() || entry->first != *seq) return Verdict::kJobUnknown;
    const Job& job = *entry->second;
    if (job.extranonce_size != size_t{share.extranonce1_size} + share.extranonce2_size)
        return Verdict::kJobUnknown;
    // The difficulty in force when this job was sent; a job from before the first pin was never sent here.
    const Pin* pinned = nullptr;
    for (const Pin& pin : session.pins)
        if (pin.from_seq <= *seq) pinned = &pin;
    if (!pinned) return Verdict::kJobUnknown;
    share.job = &job;
    share.seq = *seq;
    share.difficulty_log2 = pinned->difficulty_log2;
    share.current_difficulty = pinned == &session.pins.back();
    return Verdict::kAccepted;
}

void Engine::submit(uint32_t session, const Submit& submit) {
    if (queue_.size() >= kQueueMax) throw std::length_error("share queue is full: validate() is overdue");
    Share& share = queue_.emplace_back();
    share.session = session;
    share.verdict = resolve(session_at(session), submit, share);
    share.id_at = static_cast<uint32_t>(ids_.size());
    share.id_size = static_cast<uint32_t>(submit.id.size());
    ids_.append(submit.id);
}

// All shares of `group` are on one job. Fills hashes_[0 .. group.size()).
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
    for (size_t i = 0; i < n; ++i) {
        const Share& share = queue_[group[i]];
        uint8_t* header = blocks_.data() + 128 * i;
        put_u32_le(header, (job.version & ~share.version_mask) | share.rolled);
        std::memcpy(header + 4, job.prevhash.data(), 32);
        std::memcpy(header + 36, roots_.data() + 32 * i, 32);
        put_u32_le(header + 68, share.ntime);
        put_u32_le(header + 72, job.nbits);
        put_u32_le(header + 76, share.nonce);
        std::memset(header + 80, 0, 48);
        header[80] = 0x80;
        header[126] = 0x02;  // 640 bits
        header[127] = 0x80;
    }
    backend_.double_blocks(hashes_[0].data(), sha256::kInitialState, blocks_.data(), 2, n);
}

Verdict Engine::judge_hashed(const Share& share, const Hash& hash, bool block) {
    const Job& job = *share.job;
    if (job.stale) return Verdict::kStale;
    if (share.ntime < job.ntime_min || share.ntime > job.ntime_max) return Verdict::kNtime;
    if ((share.rolled & ~share.version_mask) != 0) return Verdict::kVersion;
    // Where the share target is harder than the network's (regtest), a block is a share: its price is
    // capped at one block for the same reason.
    const Number& target = share_targets_[static_cast<size_t>(share.difficulty_log2 - kDifficultyLog2Min)];
    if (!block && !at_most(number_from_hash(hash.data()), target)) return Verdict::kLowDifficulty;
    const auto channel = channels_.find(job.channel);
    if (channel == channels_.end()) return Verdict::kStale;
    switch (channel->second.filter.insert(hash.data())) {
        case DuplicateFilter::Result::kNew: return Verdict::kAccepted;
        case DuplicateFilter::Result::kDuplicate: return Verdict::kDuplicate;
        case DuplicateFilter::Result::kFull: break;
    }
    return Verdict::kFilterFull;
}

void Engine::remember_solution(const Share& share, const Hash& hash, Batch& batch) {
    if (std::find(recent_solutions_.begin(), recent_solutions_.end(), hash) != recent_solutions_.end()) return;
    if (recent_solutions_.size() < kRecentSolutionsMax) {
        recent_solutions_.push_back(hash);
    } else {
        recent_solutions_[recent_at_] = hash;
        recent_at_ = (recent_at_ + 1) % kRecentSolutionsMax;
    }
    Solution& solution = batch.solutions.emplace_back();
    solution.session = share.session;
    solution.worker = share.worker;
    solution.seq = share.seq;
    solution.extranonce1 = share.extranonce1;
    solution.extranonce2 = share.extranonce2;
    solution.extranonce1_size = share.extranonce1_size;
    solution.extranonce2_size = share.extranonce2_size;
    solution.ntime = share.ntime;
    solution.nonce = share.nonce;
    solution.version = (share.job->version & ~share.version_mask) | share.rolled;
    solution.hash = hash;
}

void Engine::count(const Share& share, Verdict verdict) {
    if (share.worker != kNoWorker) {
        const uint32_t rate = share.job ? share.job->rate : 0;
        tallies_.add({share.worker, rate, share.difficulty_log2, static_cast<uint8_t>(verdict), 0, 0});
    }
    Session& session = sessions_[share.session];
    if (!session.open) return;
    if (verdict != Verdict::kAccepted) {
        ++session.counters.rejected;
        return;
    }
    ++session.counters.accepted;
    if (share.current_difficulty) ++session.counters.at_difficulty;
}

void Engine::reply(const Share& share, Verdict verdict, Batch& batch) const {
    const size_t begin = batch.bytes.size();
    const std::string_view id = std::string_view(ids_).substr(share.id_at, share.id_size);
    batch.bytes.append("{\"id\":").append(id);
    if (verdict == Verdict::kAccepted) {
        batch.bytes.append(",\"result\":true,\"error\":null}\n");
    } else {
        const Answer& answer = kAnswers[static_cast<size_t>(verdict)];
        batch.bytes.append(",\"result\":null,\"error\":[").append(std::to_string(answer.code));
        batch.bytes.append(",\"").append(answer.text).append("\",null]}\n");
    }
    if (!batch.replies.empty() && batch.replies.back().session == share.session)
        batch.replies.back().end = batch.bytes.size();
    else
        batch.replies.push_back({share.session, begin, batch.bytes.size()});
}

void Engine::judge(uint32_t index, Batch& batch) {
    const Share& share = queue_[index];
    ++batch.verdicts[static_cast<size_t>(share.verdict)];
    count(share, share.verdict);
    reply(share, share.verdict, batch);
    Session& session = sessions_[share.session];
    if (session.open && !session.retarget_due && session.retarget_after > 0 &&
        session.counters.at_difficulty >= session.retarget_after) {
        session.retarget_due = true;
        batch.retarget.push_back(share.session);
    }
}

void Engine::validate(Batch& batch) {
    batch.clear();
    order_.clear();
    for (uint32_t i = 0; i < queue_.size(); ++i)
        if (queue_[i].job) order_.push_back(i);
    std::stable_sort(order_.begin(), order_.end(), [&](uint32_t a, uint32_t b) {
        return std::less<const Job*>()(queue_[a].job, queue_[b].job);
    });
    for (size_t begin = 0; begin < order_.size();) {
        const Job* job = queue_[order_[begin]].job;
        size_t end = begin + 1;
        while (end < order_.size() && end - begin < kChunk && queue_[order_[end]].job == job) ++end;
        const std::span<const uint32_t> group(order_.data() + begin, end - begin);
        hash_group(group);
        for (size_t i = 0; i < group.size(); ++i) {
            Share& share = queue_[group[i]];
            const bool block = at_most(number_from_hash(hashes_[i].data()), job->network_target);
            if (block) remember_solution(share, hashes_[i], batch);
            share.verdict = judge_hashed(share, hashes_[i], block);
        }
        begin = end;
    }
    for (uint32_t i = 0; i < queue_.size(); ++i) judge(i, batch);

    queue_.clear();
    ids_.clear();
    retired_jobs_.clear();
    free_slots_.insert(free_slots_.end(), closing_.begin(), closing_.end());
    closing_.clear();
    for (auto& [id, channel] : channels_) channel.filter.release_some();
}

}  // namespace angara
