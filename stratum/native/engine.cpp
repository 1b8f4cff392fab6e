// What the engine is told: channels and their jobs, sessions and what they say. judge.cpp does the rest.
#include "engine.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace angara {
namespace {

// SHA-256 padding of a message of message_size bytes, appended to its last bytes.
void pad(std::vector<uint8_t>& tail, uint64_t message_size) {
    tail.push_back(0x80);
    while (tail.size() % 64 != 56) tail.push_back(0);
    for (int i = 7; i >= 0; --i) tail.push_back(static_cast<uint8_t>(message_size * 8 >> 8 * i));
}

// A number for everything that a header is made of beside extranonces, times, version and nonce.
std::array<uint64_t, 2> digest_of(const Job& job, std::string_view coinbase1, std::string_view coinbase2) {
    std::vector<uint8_t> made_of;
    for (const uint64_t size : {coinbase1.size(), job.extranonce_size, coinbase2.size()})
        for (int i = 0; i < 8; ++i) made_of.push_back(static_cast<uint8_t>(size >> 8 * i));
    made_of.insert(made_of.end(), coinbase1.begin(), coinbase1.end());
    made_of.insert(made_of.end(), coinbase2.begin(), coinbase2.end());
    made_of.insert(made_of.end(), job.branch.begin(), job.branch.end());
    pad(made_of, made_of.size());
    sha256::State state;
    std::memcpy(state, sha256::kInitialState, sizeof state);
    sha256::compress(state, made_of.data(), made_of.size() / 64);
    return {uint64_t{state[0]} << 32 | state[1], uint64_t{state[2]} << 32 | state[3]};
}

}  // namespace

Engine::Engine(size_t line_bytes_max, const sha256::Backend& backend, size_t duplicates_max, bool keep_credits,
               std::optional<int> keep_log2)
    : line_bytes_max_(line_bytes_max),
      backend_(backend),
      duplicates_max_(duplicates_max),
      keep_credits_(keep_credits),
      keep_log2_(keep_log2),
      blocks_(kChunk * 128) {
    if (keep_log2 && (*keep_log2 < kDifficultyLog2Min || *keep_log2 > kDifficultyLog2Max))
        throw std::invalid_argument("difficulty out of range");
}

Engine::Session& Engine::session_at(uint32_t session) {
    if (session >= sessions_.size() || !sessions_[session]) throw std::out_of_range("no such session");
    return *sessions_[session];
}

Engine::Channel& Engine::channel_at(uint32_t channel) {
    const auto found = channels_.find(channel);
    if (found == channels_.end()) throw std::out_of_range("no such channel");
    return found->second;
}

void Engine::add_channel(uint32_t channel) {
    if (channels_.size() >= kChannelsMax) throw std::length_error("too many channels");
    if (!channels_.try_emplace(channel).second) throw std::invalid_argument("channel exists");
}

void Engine::remove_channel(uint32_t channel) {
    Channel& removed = channel_at(channel);
    drop_jobs(removed, removed.jobs.size());
    leave_tip(removed);
    channels_.erase(channel);
}

Engine::Space Engine::add_job(Job job, std::string_view coinbase1, std::string_view coinbase2, size_t extranonce_size,
                              bool clean) {
    Channel& channel = channel_at(job.channel);
    const size_t size = coinbase1.size() + extranonce_size + coinbase2.size();
    if (size > kCoinbaseMax) throw std::invalid_argument("coinbase is too long");
    if (extranonce_size > 2 * kExtranonceMax) throw std::invalid_argument("extranonce is too long");
    if (job.branch.size() % 32 != 0 || job.branch.size() > 32 * kBranchMax)
        throw std::invalid_argument("merkle branch has a wrong length");
    if (job.seq <= channel.last_seq) throw std::invalid_argument("job seq must grow");

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

    enter_tip(channel, job.prevhash);
    job.tip = channel.tip->number;
    // An upstream says by itself what is a block to it, and its shares are no shares for that.
    if (!job.forward_target) job.credit_log2_max = floor_log2(job.network_target);
    const Space space = first_seen(*channel.tip, job, coinbase1, coinbase2);
    job.space = space.seq;
    job.start_log2 = space.start_log2;
    const uint64_t seq = job.seq;
    if (clean) channel.stale_before = seq;
    append_job(channel, seq, std::make_shared<Job>(std::move(job)));
    return space;
}

// A hash of a job is a hash of every job with the same work: their difficulty was decided with the first one.
Engine::Space Engine::first_seen(Tip& tip, const Job& job, std::string_view coinbase1, std::string_view coinbase2) {
    if (tip.works.size() >= kWorksPerTipMax) tip.works.clear();
    const Space now{job.seq, job.start_log2};
    return tip.works.try_emplace(digest_of(job, coinbase1, coinbase2), now).first->second;
}

void Engine::add_alias(uint32_t channel_id, uint64_t seq, uint64_t of_seq) {
    Channel& channel = channel_at(channel_id);
    if (seq <= channel.last_seq) throw std::invalid_argument("job seq must grow");
    const std::shared_ptr<Job>* const job = find_job(channel, of_seq);
    if (!job) throw std::out_of_range("no such job");
    append_job(channel, seq, *job);
}

const std::shared_ptr<Job>* Engine::find_job(const Channel& channel, uint64_t seq) {
    const auto seq_of = [](const auto& entry) { return entry.first; };
    const auto found = std::ranges::lower_bound(channel.jobs, seq, {}, seq_of);
    return found != channel.jobs.end() && found->first == seq ? &found->second : nullptr;
}

void Engine::append_job(Channel& channel, uint64_t seq, std::shared_ptr<Job> job) {
    channel.jobs.emplace_back(seq, std::move(job));
    channel.last_seq = seq;
    if (channel.jobs.size() > kJobsPerChannelMax) drop_jobs(channel, 1);
}

// Shares in the queue may point at what is dropped.
void Engine::drop_jobs(Channel& channel, size_t count) {
    for (size_t i = 0; i < count; ++i) retired_jobs_.push_back(std::move(channel.jobs[i].second));
    channel.jobs.erase(channel.jobs.begin(), channel.jobs.begin() + static_cast<std::ptrdiff_t>(count));
}

void Engine::enter_tip(Channel& channel, const Hash& prevhash) {
    if (channel.tip && channel.tip->prevhash == prevhash) return;
    Tip& tip = tip_on(prevhash);
    ++tip.channels;
    leave_tip(channel);
    channel.tip = &tip;
}

// That of this previous block, or a new one: of those that no channel mines on the first to be forgotten.
Engine::Tip& Engine::tip_on(const Hash& prevhash) {
    const auto known = std::ranges::find(tips_, prevhash, &Tip::prevhash);
    if (known != tips_.end()) return *known;
    Tip tip{++last_tip_, prevhash, DuplicateFilter(duplicates_max_), {}};
    return *tips_.insert(tips_.begin(), std::move(tip));
}

void Engine::remember(const Hash& prevhash, std::string_view keys) {
    if (keys.size() % DuplicateFilter::kKeyBytes != 0) throw std::invalid_argument("not a whole number of keys");
    DuplicateFilter& filter = tip_on(prevhash).filter;
    for (; !keys.empty(); keys.remove_prefix(DuplicateFilter::kKeyBytes))
        filter.insert(reinterpret_cast<const uint8_t*>(keys.data()));
}

std::vector<Credits> Engine::collect_credits() {
    credit_bytes_ = 0;
    return std::exchange(credits_, {});
}

void Engine::leave_tip(Channel& channel) {
    if (!channel.tip) return;
    --channel.tip->channels;
    const auto left = std::ranges::find(tips_, channel.tip->number, &Tip::number);
    tips_.splice(tips_.end(), tips_, left);
    channel.tip = nullptr;

    // One became idle, and two may go: what a start remembered becomes fewer, and not all of it at once, as some
    // of it is of channels that have no work yet.
    auto idle = static_cast<size_t>(std::ranges::count(tips_, size_t{0}, &Tip::channels));
    for (int gone = 0; gone < 2 && idle > kIdleTipsMax; ++gone, --idle) {
        const auto oldest = std::ranges::find(tips_, size_t{0}, &Tip::channels);
        if (retired_tables_.size() > kRetiredTablesMax) retired_tables_.clear();
        oldest->filter.dismantle(retired_tables_);
        tips_.erase(oldest);
    }
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
    sessions_[slot].emplace();
    return slot;
}

void Engine::close_session(uint32_t session) {
    session_at(session);
    // Its shares in the queue are still judged: the slot is free after that.
    (queue_.empty() ? free_slots_ : closing_).push_back(session);
    sessions_[session].reset();
}

void Engine::subscribe(uint32_t session, uint32_t channel, std::string_view extranonce1, size_t extranonce2_size,
                       uint64_t from_seq) {
    Session& s = session_at(session);
    channel_at(channel);
    if (extranonce1.empty() || extranonce1.size() > kExtranonceMax || extranonce2_size == 0 ||
        extranonce2_size > kExtranonceMax)
        throw std::invalid_argument("extranonce has a wrong length");
    if (s.subscribed && from_seq != 0) {
        if (from_seq < s.place.from_seq) throw std::invalid_argument("the session has moved at a later job already");
        if (s.former.size() >= kFormerPlacesMax) s.former.erase(s.former.begin());
        s.former.push_back(s.place);
        s.place.from_seq = from_seq;
        const std::string_view before(reinterpret_cast<const char*>(s.place.extranonce1.data()),
                                      s.place.extranonce1_size);
        if (before != extranonce1) s.place.pins.clear();
    } else {
        if (s.subscribed && s.place.channel != channel) s.place.pins.clear();  // the other channel's jobs
        s.former.clear();
        s.place.from_seq = 0;
    }
    s.subscribed = true;
    s.place.channel = channel;
    s.place.extranonce1_size = static_cast<uint8_t>(extranonce1.size());
    s.place.extranonce2_size = static_cast<uint8_t>(extranonce2_size);
    std::memcpy(s.place.extranonce1.data(), extranonce1.data(), extranonce1.size());
}

void Engine::authorise(uint32_t session, std::string_view name, uint32_t worker) {
    Session& s = session_at(session);
    if (worker == kNoWorker) throw std::invalid_argument("worker 0 is nobody");
    if (name.size() > kWorkerNameMax) throw std::invalid_argument("worker name is too long");
    for (Worker& known : s.workers) {
        if (known.name != name) continue;
        if (known.worker != worker) known = {std::string(name), worker};
        return;
    }
    if (s.workers.size() >= kWorkersPerSessionMax) throw std::length_error("too many workers on one session");
    s.workers.push_back({std::string(name), worker});
}

bool Engine::set_version_mask(uint32_t session, uint32_t mask) {
    return std::exchange(session_at(session).place.version_mask, mask) != mask;
}

void Engine::pin_difficulty(uint32_t session, int difficulty_log2, uint64_t from_seq) {
    Session& s = session_at(session);
    const bool none = difficulty_log2 == kNotHeld || difficulty_log2 == kForgotten;
    if (!none && (difficulty_log2 < kDifficultyLog2Min || difficulty_log2 > kDifficultyLog2Max))
        throw std::invalid_argument("difficulty out of range");
    std::vector<Pin>& pins = s.place.pins;
    while (!pins.empty() && pins.back().from_seq >= from_seq) pins.pop_back();
    if (pins.size() >= kPinsMax) {
        pins.erase(pins.begin());
        pins.front() = {0, kForgotten};
    }
    pins.push_back({from_seq, static_cast<int8_t>(difficulty_log2)});
    s.counters.at_difficulty = 0;
    s.retarget_due = false;
    s.rests_until_s = 0;
}

void Engine::set_retarget_after(uint32_t session, uint32_t accepted_shares) {
    Session& s = session_at(session);
    s.retarget_after = accepted_shares;
    s.retarget_due = false;
}

void Engine::rest(uint32_t session, double until_s) {
    Session& s = session_at(session);
    s.rests_until_s = until_s;
    s.rejected = s.counters.rejected;
}

std::vector<uint32_t> Engine::awake(uint32_t remainder, uint32_t divisor, double now_s) {
    if (divisor == 0) throw std::invalid_argument("nothing is divided by 0");
    std::vector<uint32_t> found;
    for (size_t slot = remainder; slot < sessions_.size(); slot += divisor) {
        if (!sessions_[slot]) continue;
        Session& s = *sessions_[slot];
        heard_at(s, now_s);
        if (now_s >= s.rests_until_s || s.counters.rejected != s.rejected) found.push_back(static_cast<uint32_t>(slot));
    }
    return found;
}

double Engine::heard_at(Session& session, double now_s) {
    if (session.counters.accepted != session.heard) {
        session.heard = session.counters.accepted;
        session.heard_at_s = now_s;
    }
    return session.heard_at_s;
}

size_t Engine::duplicates(uint32_t channel) {
    const Tip* const tip = channel_at(channel).tip;
    return tip ? tip->filter.size() : 0;
}

Fed Engine::feed(uint32_t session, std::string_view data, std::string_view& line) {
    Session& s = session_at(session);
    if (!s.buffer.empty()) {
        std::string().swap(text_);  // swapped, not assigned: an assigned string keeps its memory
        text_.swap(s.buffer);
        text_.append(data);
        data = text_;
    }
    Fed fed = Fed::kDone;
    while (fed == Fed::kDone) {
        const size_t end = data.find('\n');
        if (std::min(end, data.size()) > line_bytes_max_) return Fed::kLineTooLong;
        if (end == std::string_view::npos) break;
        const std::string_view text = data.substr(0, end);
        data.remove_prefix(end + 1);
        if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
        if (const auto parsed = parse_submit(text)) {
            submit(session, *parsed);
        } else {
            line = text;
            fed = Fed::kLine;
        }
    }
    s.buffer.assign(data);
    return fed;
}

const Engine::Worker* Engine::find_worker(const Session& session, std::string_view name) {
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

// Job ids grow across all channels, so the id alone says where the session was when it was given the job.
const Engine::Place& Engine::place_of(const Session& session, std::optional<uint64_t> seq) {
    const Place* place = &session.place;
    for (size_t i = session.former.size(); seq && *seq < place->from_seq && i > 0; --i) place = &session.former[i - 1];
    return *place;
}

Verdict Engine::resolve(const Session& session, const Submit& submit, Share& share) const {
    const auto& [worker_name, job_id, extranonce2, ntime, nonce, version] = submit.params;
    const Worker* const worker = find_worker(session, worker_name.text);
    if (worker) share.worker = worker->worker;
    const auto seq = read_job_id(job_id);
    const Place& place = place_of(session, seq);
    const auto ntime_value = read_u32(ntime), nonce_value = read_u32(nonce);
    const auto rolled = submit.count == 6 ? read_u32(version) : std::optional<uint32_t>(0);
    if (!ntime_value || !nonce_value || !rolled) return Verdict::kMalformed;
    if (session.subscribed && !read_bytes(extranonce2, share.extranonce2.data(), place.extranonce2_size))
        return Verdict::kMalformed;
    if (!session.subscribed) return Verdict::kNotSubscribed;
    if (!worker) return Verdict::kUnauthorised;
    share.ntime = *ntime_value;
    share.nonce = *nonce_value;
    share.rolled = *rolled;
    share.version_mask = submit.count == 6 ? place.version_mask : 0;
    share.extranonce1 = place.extranonce1;
    share.extranonce1_size = place.extranonce1_size;
    share.extranonce2_size = place.extranonce2_size;

    const auto channel = channels_.find(place.channel);
    if (!seq || *seq < place.from_seq || channel == channels_.end()) return Verdict::kJobUnknown;
    const std::shared_ptr<Job>* const job = find_job(channel->second, *seq);
    if (!job || (*job)->extranonce_size != size_t{share.extranonce1_size} + share.extranonce2_size)
        return Verdict::kJobUnknown;
    const int8_t difficulty_log2 = difficulty_of(place, **job);
    if (difficulty_log2 < kDifficultyLog2Min) return Verdict::kJobUnknown;
    share.difficulty_log2 = difficulty_log2;
    share.job = job->get();
    share.seq = *seq;
    return Verdict::kAccepted;
}

// What was in force for who had these extranonces when the work came, whatever was decided since; where
// nobody had them, what the work itself came with. Who chooses later could choose by the hash.
int8_t Engine::difficulty_of(const Place& place, const Job& job) {
    int8_t pinned = kNotHeld;
    for (const Pin& pin : place.pins)
        if (pin.from_seq <= job.space) pinned = pin.difficulty_log2;
    if (pinned != kNotHeld) return pinned;
    return job.start_log2 == kNotHeld ? kForgotten : job.start_log2;
}

int8_t Engine::judged_at(uint32_t session, uint32_t channel, uint64_t seq) {
    const Place& place = session_at(session).place;
    const std::shared_ptr<Job>* const job = find_job(channel_at(channel), seq);
    return job ? difficulty_of(place, **job) : kForgotten;
}

void Engine::submit(uint32_t session, const Submit& submit) {
    const Session& s = session_at(session);
    if (queue_.size() >= kQueueMax || ids_.size() + submit.id.size() > kQueuedIdBytesMax ||
        credit_bytes_ + queue_.size() * sizeof(Credit) >= kCreditBytesMax ||
        (kept_.size() + queue_.size()) * sizeof(Kept) >= kKeptBytesMax)
        throw std::length_error("share queue is full: validate(), collect_credits() or collect_kept() is overdue");
    Share share;
    share.session = session;
    share.verdict = resolve(s, submit, share);
    share.id_at = static_cast<uint32_t>(ids_.size());
    share.id_size = static_cast<uint32_t>(submit.id.size());
    ids_.append(submit.id);
    queue_.push_back(share);
}

}  // namespace angara
