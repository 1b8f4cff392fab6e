// See swarm.hpp.
#include "swarm.hpp"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cstring>
#include <ctime>

#include "sha256.hpp"

namespace angara::swarm {

namespace {

constexpr uint32_t kTimer = UINT32_MAX;  // the timer's mark among the machines' numbers in epoll
constexpr uint64_t kCalibrationHashes = 100'000;

constexpr double kHashesLeast = 64;  // with less of the budget left, hashing waits for more

Ns now_ns(clockid_t clock = CLOCK_MONOTONIC) {
    timespec time{};
    clock_gettime(clock, &time);
    return static_cast<Ns>(time.tv_sec) * kSecond + static_cast<Ns>(time.tv_nsec);
}

std::string words_of(int error) { return std::strerror(error); }

// What one core hashes, from a moment of it.
double measured_hashes_per_s() {
    Work work;
    auto job = std::make_shared<Job>();
    job->coinbase1 = "measured";
    work.job = job;
    work.extranonce2_size = 4;
    Search search;
    search.begin(work, 0, 0, 0, 0);
    uint64_t left = kCalibrationHashes;
    uint32_t nonce = 0;
    const Ns start = now_ns(CLOCK_THREAD_CPUTIME_ID);
    search.step(Target{}, 1e9, left, nonce);
    const Ns took = std::max<Ns>(1, now_ns(CLOCK_THREAD_CPUTIME_ID) - start);
    return static_cast<double>(kCalibrationHashes) * 1e9 / static_cast<double>(took);
}

}  // namespace

Swarm::Swarm(Options options) : options_(std::move(options)), buffer_(kReceiveBytes) {
    resolve();
    if (options_.tls) tls_.emplace();
    if (options_.bad < 1) shared_.late = std::min(1.0, options_.late / (1 - options_.bad));
    shared_.random.seed(options_.seed);
    machines_.reserve(options_.machines.size());
    wires_.resize(options_.machines.size());
    for (size_t i = 0; i < options_.machines.size(); ++i) {
        const MachineOptions& machine = options_.machines[i];
        machines_.emplace_back(options_.profiles.at(machine.profile), machine.worker);
        wires_[i].container = machine.container;
        wires_[i].slow = machine.slow;
    }
    hashes_per_s_ = measured_hashes_per_s();
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    timer_ = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u32 = kTimer;
    if (epoll_ < 0 || timer_ < 0 || epoll_ctl(epoll_, EPOLL_CTL_ADD, timer_, &event) < 0) {
        throw std::runtime_error("no epoll or timerfd: " + words_of(errno));
    }
}

Swarm::~Swarm() {
    for (Wire& wire : wires_) {
        wire.tls.reset();
        if (wire.fd >= 0) close(wire.fd);
    }
    if (epoll_ >= 0) close(epoll_);
    if (timer_ >= 0) close(timer_);
}

void Swarm::resolve() {
    auto* const v4 = reinterpret_cast<sockaddr_in*>(&server_);
    auto* const v6 = reinterpret_cast<sockaddr_in6*>(&server_);
    if (inet_pton(AF_INET, options_.address.c_str(), &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(options_.port);
        server_size_ = sizeof *v4;
        loopback_v4_ = ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    } else if (inet_pton(AF_INET6, options_.address.c_str(), &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(options_.port);
        server_size_ = sizeof *v6;
    } else {
        throw std::invalid_argument("no address: " + options_.address);
    }
    if (options_.first_source.empty()) return;
    in_addr first{};
    if (inet_pton(AF_INET, options_.first_source.c_str(), &first) != 1) {
        throw std::invalid_argument("no address: " + options_.first_source);
    }
    first_source_ = ntohl(first.s_addr);
    const uint64_t last = uint64_t{first_source_} + options_.machines.size();
    if (!loopback_v4_ || first_source_ >> 24 != 127 || last >> 24 != 127) {
        throw std::invalid_argument("machines have addresses of their own on the loopback alone");
    }
}

// Of all machines together as few addresses as have ports enough, where they have none of their own.
in_addr Swarm::source_of(uint32_t number) const {
    const auto shared = static_cast<uint32_t>(1 + wires_.size() / kSourceSessionsMax);
    in_addr address{};
    address.s_addr = htonl(first_source_ != 0 ? first_source_ + number : (127U << 24) + 1 + number % shared);
    return address;
}

// Connections

void Swarm::watch(uint32_t number, uint32_t events) {
    Wire& wire = wires_[number];
    if (wire.events == events) return;
    epoll_event event{};
    event.events = events;
    event.data.u32 = number;
    const int operation = wire.events == 0 ? EPOLL_CTL_ADD : events == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    if (epoll_ctl(epoll_, operation, wire.fd, &event) < 0) throw std::runtime_error("epoll: " + words_of(errno));
    wire.events = events;
}

void Swarm::queue(uint32_t number) {
    wires_[number].power = Power::Queued;
    queue_.push_back(number);
}

void Swarm::connect_due(Ns now) {
    const auto interval = static_cast<Ns>(1e9 / options_.connects_per_s);
    connect_at_ns_ = std::max(connect_at_ns_, now > kConnectBurst ? now - kConnectBurst : 0);
    while (!queue_.empty() && connect_at_ns_ <= now) {
        const uint32_t number = queue_.front();
        queue_.pop_front();
        if (wires_[number].power != Power::Queued) continue;  // cut meanwhile
        connect_at_ns_ += interval;
        connect_now(number, now);
    }
}

void Swarm::connect_now(uint32_t number, Ns now) {
    Wire& wire = wires_[number];
    wire.power = Power::Connecting;
    wire.connect_ns = wire.heard_ns = now;
    wire.said_mining = false;
    ++shared_.report.connects;
    wire.fd = socket(server_.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (wire.fd < 0) return lose(number, words_of(errno));
    const int on = 1;
    setsockopt(wire.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (wire.slow) setsockopt(wire.fd, SOL_SOCKET, SO_RCVBUF, &kSlowBufferBytes, sizeof kSlowBufferBytes);
    if (loopback_v4_) {
        // An ephemeral port is then chosen at connect, for this pair of addresses.
        setsockopt(wire.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        sockaddr_in source{};
        source.sin_family = AF_INET;
        source.sin_addr = source_of(number);
        if (bind(wire.fd, reinterpret_cast<const sockaddr*>(&source), sizeof source) < 0) {
            return lose(number, words_of(errno));
        }
    }
    watch(number, EPOLLOUT);
    const auto* server = reinterpret_cast<const sockaddr*>(&server_);
    if (connect(wire.fd, server, server_size_) < 0 && errno != EINPROGRESS) lose(number, words_of(errno));
}

void Swarm::connected(uint32_t number) {
    Wire& wire = wires_[number];
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(wire.fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return lose(number, words_of(error));
    wire.power = Power::Open;
    if (tls_) wire.tls = tls_->open(wire.fd);
    watch(number, EPOLLIN);
    machines_[number].connected(shared_);
    flush(number);
}

// Away from the server: `abort`, as a machine that was switched on again knows nothing of its connection.
void Swarm::shut(uint32_t number, bool abort) {
    Wire& wire = wires_[number];
    ++wire.generation;
    wire.owed = wire.owed_bad = 0;
    wire.unsent.clear();
    machines_[number].disconnected(shared_);
    wire.tls.reset();
    if (wire.fd < 0) return;
    if (wire.events != 0) watch(number, 0);
    const linger reset{1, 0};
    if (abort) setsockopt(wire.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(wire.fd);
    wire.fd = -1;
}

void Swarm::lose(uint32_t number, const std::string& reason) {
    Wire& wire = wires_[number];
    const bool sent_away = machines_[number].told_to_leave;
    shared_.report.gone(reason);
    shut(number, false);
    if (sent_away) return queue(number);
    wire.power = Power::Waiting;
    const double jitter = 0.5 + shared_.chance() / 2;
    const auto wait = static_cast<Ns>(static_cast<double>(wire.backoff_ns) * jitter);
    timers_.push({now_ns() + wait, number, wire.generation, Do::Connect});
    wire.backoff_ns = std::min(2 * wire.backoff_ns, kBackoffMax);
}

void Swarm::restore(std::optional<uint32_t> container) {
    for (uint32_t number = 0; number < wires_.size(); ++number) {
        Wire& wire = wires_[number];
        if (container && wire.container != *container) continue;
        if (wire.power != Power::Cut && wire.power != Power::Off) continue;
        shut(number, true);
        queue(number);
    }
}

void Swarm::cut(std::optional<uint32_t> container) {
    for (uint32_t number = 0; number < wires_.size(); ++number) {
        Wire& wire = wires_[number];
        if (container && wire.container != *container) continue;
        ++wire.generation;
        wire.owed = wire.owed_bad = 0;
        wire.backoff_ns = kBackoffMin;
        if (wire.fd >= 0) watch(number, 0);
        wire.power = Power::Cut;
    }
}

void Swarm::pause(uint32_t number) {
    wires_.at(number).backoff_ns = kBackoffMin;
    shut(number, false);
    wires_[number].power = Power::Off;
}

void Swarm::wake(uint32_t number, double after_s) {
    Wire& wire = wires_.at(number);
    if (wire.power != Power::Off) return;
    wire.power = Power::Waiting;
    timers_.push({now_ns() + static_cast<Ns>(after_s * 1e9), number, wire.generation, Do::Connect});
}

// Bytes

void Swarm::ready(uint32_t number, uint32_t events) {
    Wire& wire = wires_[number];
    if (wire.fd < 0) return;
    if (wire.power == Power::Connecting) return connected(number);
    if (wire.power != Power::Open) return;
    if ((events & EPOLLOUT) != 0) flush(number);
    // TLS may have waited for either to do either.
    const bool reads = wire.tls != nullptr || (events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) != 0;
    if (wire.fd >= 0 && reads) read(number, kReceiveBytes);
}

Moved Swarm::read_some(Wire& wire, char* into, size_t room, size_t& size) {
    if (wire.tls) {
        const int got = SSL_read(wire.tls.get(), into, static_cast<int>(room));
        size = got > 0 ? static_cast<size_t>(got) : 0;
        return moved(wire.tls.get(), got, wire.tls_wants_write);
    }
    const ssize_t got = recv(wire.fd, into, room, 0);
    size = got > 0 ? static_cast<size_t>(got) : 0;
    if (got > 0) return Moved::Some;
    if (got == 0) return Moved::Closed;
    return errno == EAGAIN ? Moved::Later : Moved::Failed;
}

Moved Swarm::write_some(Wire& wire, std::string_view bytes, size_t& size) {
    if (wire.tls) {
        const int sent = SSL_write(wire.tls.get(), bytes.data(), static_cast<int>(bytes.size()));
        size = sent > 0 ? static_cast<size_t>(sent) : 0;
        return moved(wire.tls.get(), sent, wire.tls_wants_write);
    }
    const ssize_t sent = send(wire.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    size = sent > 0 ? static_cast<size_t>(sent) : 0;
    if (sent > 0) return Moved::Some;
    return errno == EAGAIN ? Moved::Later : Moved::Failed;
}

void Swarm::read(uint32_t number, size_t bytes_max) {
    Wire& wire = wires_[number];
    size_t taken = 0;
    // What TLS has decrypted already makes no socket ready: it is read to its end. A slow reader comes again.
    const auto goes_on = [&] {
        if (wire.fd < 0) return false;
        return taken < bytes_max || (wire.tls != nullptr && !wire.slow && SSL_pending(wire.tls.get()) > 0);
    };
    while (goes_on()) {
        size_t size = 0;
        const size_t room = taken < bytes_max ? std::min(bytes_max - taken, buffer_.size()) : buffer_.size();
        const Moved got = read_some(wire, buffer_.data(), room, size);
        if (got == Moved::Later) break;
        if (got == Moved::Closed) return lose(number, "closed by the server");
        if (got == Moved::Failed) return lose(number, wire.tls ? "TLS failed" : words_of(errno));
        const Ns now = now_ns();
        wire.heard_ns = now;
        taken += size;
        machines_[number].receive({buffer_.data(), size}, wire.slow, now, shared_);
        after_lines(number, now);
        if (!wire.tls) return;
    }
    if (wire.fd >= 0 && wire.tls) flush(number);  // a handshake that is done, or that wants to write
}

void Swarm::flush(uint32_t number) {
    Wire& wire = wires_[number];
    Machine& machine = machines_[number];
    std::string_view rest = machine.out;
    if (!wire.unsent.empty()) {
        wire.unsent += machine.out;
        rest = wire.unsent;
    }
    while (!rest.empty()) {
        size_t size = 0;
        const Moved sent = write_some(wire, rest, size);
        if (sent == Moved::Failed || sent == Moved::Closed) {
            return lose(number, wire.tls ? "TLS failed" : words_of(errno));
        }
        if (sent == Moved::Later) break;
        rest.remove_prefix(size);
    }
    if (rest.size() > kOutBytesMax) return lose(number, "the server does not read");
    if (!rest.empty() || !wire.unsent.empty()) wire.unsent = std::string(rest);
    machine.out.clear();
    const bool wants_write = wire.tls ? wire.tls_wants_write : !rest.empty();
    const bool sips = wire.slow && wire.said_mining;
    uint32_t events = sips ? EPOLLRDHUP : EPOLLIN;
    if (wants_write) events |= EPOLLOUT;
    watch(number, events);
}

void Swarm::after_lines(uint32_t number, Ns now) {
    Wire& wire = wires_[number];
    Machine& machine = machines_[number];
    if (!machine.ended.empty()) return lose(number, std::string(machine.ended));
    if (machine.state() == Machine::State::Mining) {
        if (!wire.said_mining) {
            wire.said_mining = true;
            wire.backoff_ns = kBackoffMin;
            shared_.report.first_job.add(now - wire.connect_ns);
            pace(number, now);
        } else if (machine.pace_changed) {
            pace(number, now);
        } else if (options_.closed_loop && submitting_ && machine.in_flight() == 0 && wire.owed == 0) {
            owe(number, now);
        }
        machine.pace_changed = false;
    }
    if (!machine.out.empty() || (wire.slow && wire.said_mining)) flush(number);
}

// Shares

// When the machine's next share is due: from now on, as chance has it, at its present rate.
void Swarm::pace(uint32_t number, Ns now) {
    Wire& wire = wires_[number];
    Machine& machine = machines_[number];
    if (!submitting_ || machine.state() != Machine::State::Mining || wire.power != Power::Open) return;
    if (options_.closed_loop) {
        if (machine.in_flight() == 0 && wire.owed == 0) owe(number, now);
        return;
    }
    const double by_hashrate = options_.hashrate_hps / machine.hashes_of_a_share();
    const double per_s = options_.hashrate_hps > 0 ? by_hashrate : options_.shares_per_s;
    ++wire.generation;
    if (per_s <= 0) return;
    const double wait_s = std::exponential_distribution<double>(1)(shared_.random) / per_s;
    if (wait_s * 1e9 >= static_cast<double>(kPaceMax)) return;
    timers_.push({now + static_cast<Ns>(wait_s * 1e9), number, wire.generation, Do::Share});
}

void Swarm::submitting(bool on) {
    submitting_ = on;
    const Ns now = now_ns();
    for (uint32_t number = 0; number < wires_.size(); ++number) {
        if (on) pace(number, now);
        if (!on) wires_[number].owed = wires_[number].owed_bad = 0;
    }
}

void Swarm::timers_due(Ns now) {
    for (uint32_t count = 0; count < kDueMax && !timers_.empty() && timers_.top().at <= now; ++count) {
        const Timer timer = timers_.top();
        timers_.pop();
        if (timer.generation != wires_[timer.number].generation) continue;
        if (timer.what == Do::Connect) {
            queue(timer.number);
        } else if (submitting_) {
            owe(timer.number, timer.at);
            pace(timer.number, timer.at);  // not now: who is late does not ask for less
        }
    }
}

void Swarm::owe(uint32_t number, Ns now) {
    Wire& wire = wires_[number];
    ++shared_.report.due;
    if (options_.bad > 0 && shared_.chance() < options_.bad) {
        ++wire.owed_bad;
    } else if (wire.owed < kInFlightMax) {
        if (wire.owed++ == 0) wire.due_ns = now;
    } else {
        ++shared_.report.too_dear;
        return;
    }
    again(number);
}

// Its turn comes, where a share of it is due.
void Swarm::again(uint32_t number) {
    Wire& wire = wires_[number];
    if (wire.to_search || wire.owed + wire.owed_bad == 0) return;
    wire.to_search = true;
    to_search_.push_back(number);
}

void Swarm::search(Ns now) {
    const double per_s = options_.hashing * hashes_per_s_;
    const double passed_s = static_cast<double>(std::min(now - hashed_at_ns_, kHashBurst)) / 1e9;
    hashes_allowed_ = std::min(hashes_allowed_ + passed_s * per_s, per_s * static_cast<double>(kHashBurst) / 1e9);
    hashed_at_ns_ = now;
    for (uint32_t count = 0; count < kDueMax && !to_search_.empty() && hashes_allowed_ >= kHashesLeast; ++count) {
        const uint32_t number = to_search_.front();
        Wire& wire = wires_[number];
        Machine& machine = machines_[number];
        to_search_.pop_front();
        wire.to_search = false;
        if (wire.owed + wire.owed_bad == 0 || wire.power != Power::Open) continue;
        if (machine.state() != Machine::State::Mining) continue;
        const Ns start = now_ns();
        if (!machine.may_submit(start, shared_)) {
            shared_.report.busy += wire.owed + wire.owed_bad;
            wire.owed = wire.owed_bad = 0;
            continue;
        }
        if (wire.owed_bad > 0) {  // which takes no search, and waits for none
            --wire.owed_bad;
            uint64_t left = kSliceHashes;
            machine.submit_bad(left, start, shared_);
            hashes_allowed_ -= static_cast<double>(kSliceHashes - left);
            flush(number);
        }
        if (wire.owed == 0) {
            again(number);
            continue;
        }
        if (!machine.may_submit(start, shared_)) {
            again(number);
            continue;
        }
        const auto allowed = std::min(kSliceHashes, static_cast<uint64_t>(hashes_allowed_));
        uint64_t left = allowed;
        const bool found = machine.work_on_share(left, start, shared_);
        hashes_allowed_ -= static_cast<double>(allowed - left);
        if (found) {
            shared_.report.found_after.add(start - std::min(start, wire.due_ns));
            --wire.owed;
            wire.due_ns = start;
            flush(number);
        }
        again(number);
        if (!found) break;  // a slice of hashing is over: to the sockets
    }
}

// Time

void Swarm::sweep(Ns now) {
    swept_ns_ = now;
    for (uint32_t number = 0; number < wires_.size(); ++number) {
        const Wire& wire = wires_[number];
        if (wire.power != Power::Open && wire.power != Power::Connecting) continue;
        if (!wire.said_mining && now - wire.connect_ns > kHandshakeMax) {
            lose(number, "no work in time");
        } else if (now - std::max(wire.heard_ns, wire.connect_ns) > kSilenceMax) {
            lose(number, "silent");
        } else if (wire.slow && wire.said_mining) {
            read(number, kSipBytes);
        }
    }
}

Ns Swarm::wake_at(Ns until, Ns now) const {
    Ns at = std::min(until, swept_ns_ + kSweep);
    if (!timers_.empty()) at = std::min(at, timers_.top().at);
    if (!queue_.empty()) at = std::min(at, connect_at_ns_);
    if (!to_search_.empty()) at = hashes_allowed_ >= kHashesLeast ? now : std::min(at, now + kSecond / 1000);
    return at;
}

// Waits until a socket is ready or `wake_at` has come, and serves what is ready.
void Swarm::poll(Ns wake_at) {
    const bool waits = wake_at > now_ns();
    if (waits && wake_at != timer_set_to_) {  // epoll's own time-out is no finer than a millisecond
        itimerspec time{};
        time.it_value.tv_sec = static_cast<time_t>(wake_at / kSecond);
        time.it_value.tv_nsec = static_cast<long>(wake_at % kSecond);
        timerfd_settime(timer_, TFD_TIMER_ABSTIME, &time, nullptr);
        timer_set_to_ = wake_at;
    }
    const int count = epoll_wait(epoll_, events_.data(), static_cast<int>(events_.size()), waits ? -1 : 0);
    if (count < 0 && errno != EINTR) throw std::runtime_error("epoll: " + words_of(errno));
    interrupted_ = count < 0;
    for (int i = 0; i < count; ++i) {
        const epoll_event& event = events_[static_cast<size_t>(i)];
        if (event.data.u32 != kTimer) {
            ready(event.data.u32, event.events);
            continue;
        }
        uint64_t expirations = 0;
        if (::read(timer_, &expirations, sizeof expirations) > 0) timer_set_to_ = 0;
    }
}

void Swarm::run(double seconds) {
    const Ns until = now_ns() + static_cast<Ns>(seconds * 1e9);
    interrupted_ = false;
    for (Ns now = now_ns(); now < until && !interrupted_; now = now_ns()) {
        timers_due(now);
        connect_due(now);
        search(now);
        if (now - swept_ns_ >= kSweep) sweep(now);
        poll(wake_at(until, now));
    }
}

uint32_t Swarm::mining(std::optional<uint32_t> container) const {
    uint32_t count = 0;
    for (size_t i = 0; i < wires_.size(); ++i) {
        const bool counts = !container || wires_[i].container == *container;
        if (counts && wires_[i].power == Power::Open && wires_[i].said_mining) ++count;
    }
    return count;
}

std::pair<double, double> Swarm::difficulties() const {
    double least = 0, most = 0;
    for (const Machine& machine : machines_) {
        if (machine.state() != Machine::State::Mining) continue;
        least = least > 0 ? std::min(least, machine.difficulty()) : machine.difficulty();
        most = std::max(most, machine.difficulty());
    }
    return {least, most};
}

uint64_t Swarm::in_flight() const {
    uint64_t count = 0;
    for (size_t i = 0; i < wires_.size(); ++i) {
        if (wires_[i].power == Power::Open) count += machines_[i].in_flight();
    }
    return count;
}

uint64_t Swarm::searching() const {
    uint64_t count = 0;
    for (const Wire& wire : wires_) count += wire.owed;
    return count;
}

}  // namespace angara::swarm
