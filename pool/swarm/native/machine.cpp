// See machine.hpp.
#include "machine.hpp"

namespace angara::swarm {

static_assert(SubmitLine::kIds % kInFlightMax == 0 && SubmitLine::kFirstId % kInFlightMax == 0);

namespace {

constexpr std::array kBadKinds = {Kind::Duplicate, Kind::LowDifficulty, Kind::UnknownJob, Kind::WrongTime};
constexpr std::string_view kUnknownJob = "beefbeefbeef";
constexpr uint32_t kWrongBy = 7 * 24 * 3600;  // seconds; servers take an hour or two
constexpr uint64_t kLowDifficultyTries = 64;  // where nearly every hash is a share there may be none that is not

}  // namespace

// Connection

void Machine::connected(Shared& shared) {
    state_ = State::Asking;
    extranonce2_ = shared.random();
    ask_on();
}

void Machine::disconnected(Shared& shared) {
    shared.report.unanswered += in_flight_;
    shared.partial_bytes -= partial_.size();
    *this = Machine(*profile_, std::move(worker_));
}

void Machine::receive(std::string_view bytes, bool slow, Ns now, Shared& shared) {
    while (!bytes.empty() && ended.empty()) {
        const size_t end = bytes.find('\n');
        if (end == std::string_view::npos || !partial_.empty()) {
            const std::string_view piece = bytes.substr(0, end);
            partial_.append(piece);
            shared.partial_bytes += piece.size();
            if (partial_.size() > kLineBytesMax || shared.partial_bytes > kPartialBytesMax) {
                ended = "a line without end";
            }
            if (end == std::string_view::npos) return;
            if (ended.empty()) line(partial_, slow, now, shared);
            shared.partial_bytes -= partial_.size();
            partial_.clear();
            if (partial_.capacity() > kLineBytesMax / 8) partial_.shrink_to_fit();
        } else {
            line(bytes.substr(0, end), slow, now, shared);
        }
        bytes.remove_prefix(end + 1);
        if (out.size() > kOutBytesMax) ended = "the server does not read";
    }
}

// Lines of the server

void Machine::line(std::string_view text, bool slow, Ns now, Shared& shared) {
    if (auto job = shared.jobs.again(text)) return notified(std::move(job), text.size(), now, shared);
    Message message;
    if (!message.parse(text)) {
        ++shared.report.bad_lines;
        if (++bad_lines_ >= kBadLinesMax) ended = "lines that are no JSON";
        return;
    }
    if (message.method.empty()) return reply(message, slow, now, shared);
    if (message.method == "mining.notify") {
        std::string problem;
        auto job = shared.jobs.read(text, message.params, problem);
        if (job == nullptr) {
            ended = problem;
            return;
        }
        return notified(std::move(job), text.size(), now, shared);
    }
    request(message, shared);
}

void Machine::request(const Message& message, Shared& shared) {
    const std::string_view first = element_of(message.params, 0);
    if (message.method == "mining.set_difficulty") {
        set_difficulty(first);
    } else if (message.method == "mining.set_extranonce") {
        set_extranonce(unquoted(first), element_of(message.params, 1));
    } else if (message.method == "mining.set_version_mask") {
        const auto mask = uint32_of_hex(unquoted(first));
        if (mask) mask_ = *mask & profile_->mask;
        search_.forget();
    } else if (message.method == "client.reconnect") {
        ++shared.report.reconnects_asked;
        const std::string_view host = unquoted(first);
        if (!host.empty()) ++shared.report.reconnects_elsewhere;  // a swarm goes where it was sent, and nowhere else
        if (!profile_->obeys_reconnect) return;
        told_to_leave = true;
        ended = "asked to reconnect";
    } else if (message.method == "mining.ping" || message.method == "client.get_version") {
        answer(message, shared);
    }  // client.show_message, and whatever a machine need not know
}

void Machine::answer(const Message& message, Shared& shared) {
    ++shared.report.pings;
    const bool ping = message.method == "mining.ping";
    if ((ping && profile_->pong == Pong::Silent) || message.id.size() > kReplyIdMax) return;
    const std::string_view id = message.id.empty() ? "null" : message.id;
    out.append(R"({"id":)").append(id);
    if (ping && profile_->pong == Pong::Request) {
        out.append(R"(,"method":"pong","params":[]})");
    } else {
        out.append(R"(,"result":")").append(ping ? "pong" : profile_->agent).append(R"(","error":null})");
    }
    out += '\n';
}

void Machine::set_difficulty(std::string_view text) {
    const auto difficulty = real_of(text);
    if (!difficulty || !(*difficulty > 0)) {
        ended = "a difficulty that no machine understands";
        return;
    }
    difficulty_ = *difficulty;
    if (!profile_->difficulty_at_once || work_.job == nullptr) return;
    work_.target = target_from_difficulty(difficulty_);
    work_.hashes = hashes_from_difficulty(difficulty_);
    pace_changed = true;
}

// Holds from the next job on, as in all firmware that knows it.
void Machine::set_extranonce(std::string_view extranonce1, std::string_view size) {
    std::string bytes;
    const uint32_t extranonce2_size = number_of(size, 0);
    const bool fits = extranonce1.size() <= 2 * kExtranonce1Max && bytes_of_hex(extranonce1, bytes);
    if (!fits || extranonce2_size == 0 || extranonce2_size > kExtranonce2Max) {
        ended = "extranonces that no machine takes";
        return;
    }
    extranonce1_ = bytes;
    extranonce2_size_ = extranonce2_size;
}

void Machine::notified(std::shared_ptr<const Job> job, size_t bytes, Ns now, Shared& shared) {
    ++shared.report.notifies;
    shared.report.notify_bytes += bytes;
    if (!subscribed_) return;  // it could not build a header
    const bool new_block = work_.job != nullptr && work_.job->prevhash != job->prevhash;
    if (work_.job != nullptr && job->clean && work_.job != job) {
        stale_work_ = std::move(work_);
        if (search_is_stale_) search_.forget();
    }
    if (state_ == State::Mining && new_block) shared.report.blocks.reached(job->prevhash, now);
    const Work before = std::move(work_);
    work_.job = std::move(job);
    work_.extranonce1 = extranonce1_;
    work_.extranonce2_size = extranonce2_size_;
    work_.target = target_from_difficulty(difficulty_);
    work_.hashes = hashes_from_difficulty(difficulty_);
    pace_changed = pace_changed || work_.hashes != before.hashes;
    if (!search_is_stale_) search_.forget();
    become_ready();
}

// Answers

void Machine::reply(const Message& message, bool slow, Ns now, Shared& shared) {
    const uint32_t id = number_of(message.id, 0);
    if (id >= SubmitLine::kFirstId || (profile_->fixed_id && id == SubmitLine::kFixedId)) {
        return share_answered(id, message, slow, now, shared);
    }
    if (id == 0 || id > next_step_) {
        ++shared.report.stray_replies;
        return;
    }
    step_answered(profile_->steps[id - 1], message);
    if (!ended.empty() || id != waits_for_) return;
    waits_for_ = 0;
    ask_on();
    become_ready();
}

void Machine::step_answered(const Step& step, const Message& message) {
    const auto refused = [&](const char* request) {
        ended = std::string(request) + " refused: " + std::string(message.error.substr(0, kWordsMax));
    };
    if (step.ask == Ask::Configure) {
        Elements members(message.result);
        bool rolls = false;
        for (std::string_view key, value; members.next(key) && members.next(value);) {
            if (unquoted(key) == "version-rolling") rolls = value == "true";
            if (unquoted(key) == "version-rolling.mask")
                mask_ = uint32_of_hex(unquoted(value)).value_or(0) & profile_->mask;
        }
        configured_ = rolls;
        if (!rolls) mask_ = 0;
        search_.forget();
    } else if (step.ask == Ask::Subscribe) {
        const std::string_view extranonce1 = unquoted(element_of(message.result, 1));
        if (element_of(message.result, 2).empty()) return refused("subscribe");
        set_extranonce(extranonce1, element_of(message.result, 2));
        subscribed_ = ended.empty();
    } else if (step.ask == Ask::Authorize) {
        if (message.result != "true") return refused("authorize");
        authorised_ = true;
        become_ready();
    }
}

void Machine::ask_on() {
    while (waits_for_ == 0 && next_step_ < profile_->steps.size()) {
        const Step& step = profile_->steps[next_step_++];
        constexpr std::string_view kPlace = "{worker}";
        const size_t place = step.text.find(kPlace);
        out.append(R"({"id":)").append(std::to_string(next_step_)).append(",");
        out.append(step.text, 0, place);
        if (place != std::string::npos) out.append(worker_).append(step.text, place + kPlace.size(), std::string::npos);
        out += "}\n";
        if (step.waits) waits_for_ = next_step_;
    }
}

void Machine::become_ready() {
    if (state_ == State::Asking && subscribed_ && authorised_ && work_.job != nullptr) state_ = State::Mining;
}

void Machine::share_answered(uint32_t id, const Message& message, bool slow, Ns now, Shared& shared) {
    // With the same id in all of them an answer is the oldest's.
    const uint32_t sequence = profile_->fixed_id ? sequence_ - in_flight_ : id;
    Flight& flight = flights_[sequence % kInFlightMax];
    if (flight.sent_ns == 0 || in_flight_ == 0) {
        ++shared.report.stray_replies;
        return;
    }
    (slow ? shared.report.slow_latency : shared.report.latency).add(now - flight.sent_ns);
    if (message.result == "true") {
        shared.report.accepted(flight.kind);
    } else {
        shared.report.rejected(flight.kind, code_of(message.error), message.reason, message.error);
    }
    flight.sent_ns = 0;
    --in_flight_;
}

// Shares

bool Machine::may_submit(Ns now, Shared& shared) {
    Flight& next = flights_[sequence_ % kInFlightMax];
    if (next.sent_ns == 0) return true;
    if (now - next.sent_ns < kAnswerMax) return false;
    ++shared.report.unanswered;
    next.sent_ns = 0;
    --in_flight_;
    return true;
}

bool Machine::work_on_share(uint64_t& hashes_left, Ns now, Shared& shared) {
    if (!late_) late_ = shared.late > 0 && shared.chance() < shared.late && stale_work_.job != nullptr;
    const bool late = *late_;
    if (late != search_is_stale_) search_.forget();
    search_is_stale_ = late;
    const Work& work = late ? stale_work_ : work_;
    uint32_t nonce = 0;
    if (!find(work, true, hashes_left, nonce, shared)) return false;
    if (!formatted_) format(submit_line_, work.job->id, work.job->ntime_hex);
    formatted_ = submitted_ = true;
    last_nonce_ = nonce;
    submit(late ? Kind::Late : Kind::Good, nonce, submit_line_, now, shared);
    late_.reset();
    return true;
}

void Machine::begin(const Work& work, Shared& shared) {
    const uint32_t rolled = mask_ == 0 ? 0 : static_cast<uint32_t>(shared.random());
    search_.begin(work, extranonce2_++, mask_, rolled, static_cast<uint32_t>(shared.random()));
    formatted_ = submitted_ = false;
}

bool Machine::find(const Work& work, bool meeting, uint64_t& hashes_left, uint32_t& nonce, Shared& shared) {
    if (!search_.begun()) {
        begin(work, shared);
        hashes_left -= std::min(hashes_left, Search::kBeginHashes);
    }
    const uint64_t before = hashes_left;
    bool found = false;
    if (meeting) {
        found = search_.step(work.target, work.hashes, hashes_left, nonce);
    } else {
        for (uint64_t i = 0; i < kLowDifficultyTries && !found && search_.begun(); ++i) {
            uint64_t one = 1;
            found = !search_.step(work.target, 1, one, nonce);
        }
        hashes_left -= std::min(hashes_left, kLowDifficultyTries);
    }
    shared.report.hashes += before - hashes_left;
    return found;
}

void Machine::format(SubmitLine& line, std::string_view job, std::string_view ntime) const {
    const bool six = configured_ || profile_->always_six;
    line.format(profile_->fixed_id, worker_, job, search_.extranonce2_hex(), ntime,
                six ? std::optional(search_.rolled_bits()) : std::nullopt);
}

void Machine::submit(Kind kind, uint32_t nonce, SubmitLine& line, Ns now, Shared& shared) {
    flights_[sequence_ % kInFlightMax] = {now, kind};
    ++in_flight_;
    out += line.patched(sequence_++, nonce);
    ++shared.report.submitted;
}

void Machine::submit_bad(uint64_t& hashes_left, Ns now, Shared& shared) {
    if (search_is_stale_) search_.forget();
    search_is_stale_ = false;
    Kind kind = kBadKinds[shared.random() % kBadKinds.size()];
    uint32_t nonce = static_cast<uint32_t>(shared.random());
    if (!search_.begun()) begin(work_, shared);
    if (kind == Kind::LowDifficulty && !find(work_, false, hashes_left, nonce, shared)) kind = Kind::UnknownJob;
    if (!search_.begun()) begin(work_, shared);
    if (kind == Kind::Duplicate && !submitted_) kind = Kind::UnknownJob;
    if (kind == Kind::Duplicate) nonce = last_nonce_;
    const Job& job = *work_.job;
    const std::string wrong_time = hex_of(job.ntime + kWrongBy);
    SubmitLine line;
    format(line, kind == Kind::UnknownJob ? kUnknownJob : std::string_view(job.id),
           kind == Kind::WrongTime ? std::string_view(wrong_time) : std::string_view(job.ntime_hex));
    hashes_left -= std::min<uint64_t>(hashes_left, 1);
    submit(kind, nonce, line, now, shared);
}

}  // namespace angara::swarm
