// The load generator's sessions and its event loop: one thread, one epoll, no hashing. Sessions are
// numbers into one vector; whatever happens to a socket happens here. Every session moves through
//
//     Connecting -> Subscribing -> Authorising -> AwaitingJob -> Mining -> Lost
//
// and submits only while it is Mining. Knows nothing of how its figures are printed.
#pragma once
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <deque>
#include <stdexcept>
#include <unordered_map>

#include "load_report.hpp"
#include "load_wire.hpp"

namespace load {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint32_t kHandshakesMax = 256;             // in flight, unless it is a storm
constexpr uint64_t kProgressTimeout = 20 * kSecond;  // no session got ready for so long: give up
constexpr uint64_t kRetryDelay = kSecond;            // a storm's lost session connects again after this
constexpr uint64_t kDrain = 2 * kSecond;             // replies may come so long after the last submit
constexpr uint32_t kInFlightMax = 16;                // shares of one session without a reply, open loop
constexpr size_t kReceiveBytes = 64 * 1024;
constexpr size_t kLineBytesMax = 256 * 1024;  // a longer line, or more unsent bytes: the session is lost
constexpr size_t kJobsMax = 1'000'000;        // a pool with a job id per session would fill the memory
constexpr uint32_t kDueSharesMax = 4096;      // submitted between two looks at the sockets
constexpr uint32_t kNoJob = UINT32_MAX;
constexpr uint32_t kTimer = UINT32_MAX;  // the timer's mark among the sessions' numbers in epoll

inline uint64_t now_ns() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<uint64_t>(time.tv_sec) * kSecond + static_cast<uint64_t>(time.tv_nsec);
}

struct Options {
    std::string host, port, tenant = "acme";
    uint32_t sessions = 0, from_ips = 0;
    double seconds = 0, warmup = 0, rate = 0;
    bool hold = false, storm = false;
};

enum class State : uint8_t { Closed, Connecting, Subscribing, Authorising, AwaitingJob, Mining, Lost };

struct Session {
    int fd = -1;
    State state = State::Closed;
    bool wants_write = false, has_difficulty = false;
    uint32_t extranonce2_size = 0;
    uint32_t job = kNoJob, formatted_job = kNoJob;
    uint32_t sequence = 0, in_flight = 0;
    uint64_t connect_ns = 0;
    std::array<uint64_t, kInFlightMax> sent_ns{};  // by sequence modulo its size; 0: free
    std::string partial, unsent;
    SubmitLine submit;
};

class Client {
  public:
    explicit Client(const Options& options) : options_(options), sessions_(options.sessions) {
        epoll_ = epoll_create1(0);
        timer_ = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
        if (epoll_ < 0 || timer_ < 0) throw std::runtime_error("no epoll or timerfd");
        watch(EPOLL_CTL_ADD, timer_, EPOLLIN, kTimer);
        resolve();
    }

    // Runs the whole benchmark; throws std::runtime_error when sessions could not be established.
    void run() {
        const uint64_t start = now_ns();
        establish(start);
        established_ = true;
        report_.connect_s = static_cast<double>(now_ns() - start) / 1e9;
        std::fprintf(stderr, "ready: %u sessions in %.3f s\n", mining_, report_.connect_s);
        if (!options_.hold) start_submitting();
        const uint64_t measure_from = now_ns() + nanoseconds(options_.warmup);
        loop_until(measure_from);
        measuring_ = true;
        getrusage(RUSAGE_SELF, &report_.cpu_from);
        const uint64_t measured_from = now_ns();
        loop_until(measured_from + nanoseconds(options_.seconds));
        report_.seconds = static_cast<double>(now_ns() - measured_from) / 1e9;
        getrusage(RUSAGE_SELF, &report_.cpu_to);
        measuring_ = submitting_ = false;
        const uint64_t drained_at = now_ns() + kDrain;
        while (in_flight_ > 0 && now_ns() < drained_at) poll(now_ns() + kSecond / 100);
        report_.unanswered = in_flight_;
        report_.sessions = options_.sessions;
        report_.live = mining_;
        report_.print(stdout, jobs_);
        if (mining_ == 0) throw std::runtime_error("all sessions were lost");
    }

  private:
    static uint64_t nanoseconds(double seconds) { return static_cast<uint64_t>(seconds * 1e9); }

    void resolve() {
        addrinfo hints{};
        hints.ai_family = AF_INET;
        hints.ai_socktype = SOCK_STREAM;
        addrinfo* found = nullptr;
        const int error = getaddrinfo(options_.host.c_str(), options_.port.c_str(), &hints, &found);
        if (error != 0) throw std::runtime_error(options_.host + ": " + gai_strerror(error));
        std::memcpy(&server_, found->ai_addr, sizeof server_);
        freeaddrinfo(found);
    }

    void watch(int operation, int fd, uint32_t events, uint32_t number) const {
        epoll_event event{};
        event.events = events;
        event.data.u32 = number;
        if (epoll_ctl(epoll_, operation, fd, &event) < 0) throw std::runtime_error("epoll_ctl failed");
    }

    // Connections

    void establish(uint64_t start) {
        uint32_t opened = 0;
        uint32_t ready = 0;
        for (uint64_t progress_at = start; mining_ < options_.sessions;) {
            const uint64_t now = now_ns();
            for (uint32_t burst = 0; burst < kHandshakesMax && opened < options_.sessions; ++burst) {
                if (!options_.storm && opened - mining_ >= kHandshakesMax) break;
                open(opened++);
            }
            while (!retries_.empty() && retries_.front().first <= now) {
                open(retries_.front().second);
                retries_.pop_front();
            }
            poll(opened < options_.sessions && options_.storm ? 0 : now + kSecond / 100);
            if (mining_ != ready) {
                ready = mining_;
                progress_at = now;
            }
            if (now - progress_at > kProgressTimeout) {
                throw std::runtime_error("only " + std::to_string(mining_) + " of " +
                                         std::to_string(options_.sessions) +
                                         " sessions got ready; last failure: " + last_failure_);
            }
        }
    }

    void open(uint32_t number) {
        Session& session = sessions_[number];
        session = Session{};
        session.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (session.fd < 0) throw std::runtime_error(std::string("socket: ") + std::strerror(errno));
        const int on = 1;
        setsockopt(session.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (ntohl(server_.sin_addr.s_addr) >> 24 == 127) {
            // An ephemeral port is then chosen at connect, for this pair of addresses.
            setsockopt(session.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
            sockaddr_in source{};
            source.sin_family = AF_INET;
            source.sin_addr.s_addr = htonl((127U << 24) + 1 + number % options_.from_ips);
            if (bind(session.fd, reinterpret_cast<const sockaddr*>(&source), sizeof source) < 0) {
                throw std::runtime_error(std::string("bind: ") + std::strerror(errno));
            }
        }
        session.connect_ns = now_ns();
        session.state = State::Connecting;
        watch(EPOLL_CTL_ADD, session.fd, EPOLLOUT, number);
        const auto* server = reinterpret_cast<const sockaddr*>(&server_);
        if (connect(session.fd, server, sizeof server_) < 0 && errno != EINPROGRESS) {
            lose(number, std::strerror(errno));
        }
    }

    void connected(uint32_t number) {
        Session& session = sessions_[number];
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(session.fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error != 0) return lose(number, std::strerror(error));
        watch(EPOLL_CTL_MOD, session.fd, EPOLLIN, number);
        session.state = State::Subscribing;
        send_line(number, R"({"id":1,"method":"mining.subscribe","params":["angara-load/1"]})"
                          "\n");
    }

    void lose(uint32_t number, const std::string& reason) {
        Session& session = sessions_[number];
        if (session.fd < 0) return;
        close(session.fd);
        session.fd = -1;
        in_flight_ -= session.in_flight;
        if (session.state == State::Mining) --mining_;
        session.state = State::Lost;
        if (established_) {
            ++report_.disconnects;
            return;
        }
        ++report_.connect_failures;
        last_failure_ = "session " + std::to_string(number) + ": " + reason;
        if (!options_.storm) throw std::runtime_error(last_failure_);
        retries_.emplace_back(now_ns() + kRetryDelay, number);
    }

    // Bytes

    void send_line(uint32_t number, std::string_view line) {
        Session& session = sessions_[number];
        if (session.unsent.empty()) {
            const ssize_t sent = send(session.fd, line.data(), line.size(), MSG_NOSIGNAL);
            if (sent == static_cast<ssize_t>(line.size())) return;
            if (sent < 0 && errno != EAGAIN) return lose(number, std::strerror(errno));
            if (sent > 0) line.remove_prefix(static_cast<size_t>(sent));
        }
        session.unsent.append(line);
        if (session.unsent.size() > kLineBytesMax) return lose(number, "the pool does not read");
        if (!session.wants_write) watch(EPOLL_CTL_MOD, session.fd, EPOLLIN | EPOLLOUT, number);
        session.wants_write = true;
    }

    void send_rest(uint32_t number) {
        Session& session = sessions_[number];
        const ssize_t sent = send(session.fd, session.unsent.data(), session.unsent.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return lose(number, std::strerror(errno));
        if (sent > 0) session.unsent.erase(0, static_cast<size_t>(sent));
        if (!session.unsent.empty()) return;
        session.wants_write = false;
        watch(EPOLL_CTL_MOD, session.fd, EPOLLIN, number);
    }

    void receive(uint32_t number) {
        Session& session = sessions_[number];
        const ssize_t size = recv(session.fd, buffer_.data(), buffer_.size(), 0);
        if (size < 0 && errno == EAGAIN) return;
        if (size <= 0) return lose(number, size < 0 ? std::strerror(errno) : "closed by the pool");
        const uint64_t now = now_ns();
        std::string_view text(buffer_.data(), static_cast<size_t>(size));
        std::string joined;
        if (!session.partial.empty()) {
            joined.swap(session.partial);
            joined.append(text);
            text = joined;
        }
        for (size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
            line_received(number, text.substr(0, end), now);
            if (session.fd < 0) return;
            text.remove_prefix(end + 1);
        }
        if (text.size() > kLineBytesMax) return lose(number, "a line without end");
        session.partial.assign(text);
    }

    // Lines

    void line_received(uint32_t number, std::string_view line, uint64_t now) {
        if (line == last_notify_) return notified(number, last_notify_job_, line.size(), now);
        Message message;
        if (!message.parse(line)) {
            ++report_.bad_lines;
            return;
        }
        if (message.method.empty()) return reply_received(number, message, now);
        if (message.method == "mining.notify") {
            last_notify_job_ = job_of(message.params, now);
            last_notify_ = line;
            return notified(number, last_notify_job_, line.size(), now);
        }
        Session& session = sessions_[number];
        if (message.method == "mining.set_difficulty") {
            session.has_difficulty = true;
            report_.difficulty = element_of(message.params, 0);
            become_ready(number, now);
        } else if (message.method == "mining.set_extranonce") {
            session.extranonce2_size = number_of(element_of(message.params, 1), session.extranonce2_size);
            session.formatted_job = kNoJob;
        } else if (message.method == "client.reconnect") {
            ++report_.reconnect_requests;
        } else if (message.method == "mining.ping" || message.method == "client.get_version") {
            const std::string id(message.id.empty() ? "null" : message.id);
            send_line(number, R"({"id":)" + id +
                                  R"(,"result":"angara-load/1","error":null})"
                                  "\n");
        }
    }

    uint32_t job_of(std::string_view params, uint64_t now) {
        const std::string id(unquoted(element_of(params, 0)));
        const auto [known, is_new] = job_numbers_.try_emplace(id, static_cast<uint32_t>(jobs_.size()));
        if (!is_new) return known->second;
        if (jobs_.size() == kJobsMax) throw std::runtime_error("too many different job ids");
        Job job;
        job.id = id;
        job.ntime = unquoted(element_of(params, 7));
        job.clean = element_of(params, 8) == "true";
        job.measured = measuring_;
        job.first_ns = job.last_ns = now;
        jobs_.push_back(job);
        return known->second;
    }

    void notified(uint32_t number, uint32_t job_number, size_t bytes, uint64_t now) {
        Session& session = sessions_[number];
        if (measuring_) {
            ++report_.notifies;
            report_.notify_bytes += bytes;
        }
        const bool had_it = session.job == job_number;
        session.job = job_number;
        if (session.state != State::Mining) return become_ready(number, now);
        if (had_it) return;
        Job& job = jobs_[job_number];
        ++job.reached;
        job.last_ns = now;
    }

    void reply_received(uint32_t number, const Message& message, uint64_t now) {
        Session& session = sessions_[number];
        const uint32_t id = number_of(message.id, 0);
        if (session.state == State::Subscribing && id == 1) {
            session.extranonce2_size = number_of(element_of(message.result, 2), 0);
            if (session.extranonce2_size == 0) return lose(number, refusal("subscribe", message));
            session.state = State::Authorising;
            send_line(number, R"({"id":2,"method":"mining.authorize","params":[")" + worker(number) +
                                  R"(","x"]})"
                                  "\n");
        } else if (session.state == State::Authorising && id == 2) {
            if (message.result != "true") return lose(number, refusal("authorize", message));
            session.state = State::AwaitingJob;
            become_ready(number, now);
        } else if (id >= SubmitLine::kFirstId) {
            share_answered(number, id, message, now);
        } else {
            ++report_.stray_replies;
        }
    }

    static std::string refusal(const char* request, const Message& message) {
        return std::string(request) + " refused: " + std::string(message.error);
    }

    void become_ready(uint32_t number, uint64_t now) {
        Session& session = sessions_[number];
        if (session.state != State::AwaitingJob || session.job == kNoJob || !session.has_difficulty) return;
        session.state = State::Mining;
        ++mining_;
        report_.handshake.add(now - session.connect_ns);
        if (submitting_ && options_.rate == 0) submit(number, now);
    }

    std::string worker(uint32_t number) const {
        char text[32];
        std::snprintf(text, sizeof text, ".c%02u.u%04u", number / 400 + 1, number % 400 + 1);
        return options_.tenant + text;
    }

    // Shares

    void start_submitting() {
        submitting_ = true;
        const uint64_t now = now_ns();
        next_due_ns_ = static_cast<double>(now);
        for (uint32_t number = 0; number < sessions_.size() && options_.rate == 0; ++number) {
            if (sessions_[number].state == State::Mining) submit(number, now);
        }
    }

    void submit(uint32_t number, uint64_t now) {
        Session& session = sessions_[number];
        if (session.formatted_job != session.job) {
            const Job& job = jobs_[session.job];
            session.submit.format(worker(number), job.id, job.ntime, session.extranonce2_size);
            session.formatted_job = session.job;
        }
        session.sent_ns[session.sequence % kInFlightMax] = now;
        ++session.in_flight;
        ++in_flight_;
        const uint32_t nonce = (number * 2654435761U) ^ session.sequence;
        send_line(number, session.submit.patched(session.sequence++, nonce));
    }

    void share_answered(uint32_t number, uint32_t id, const Message& message, uint64_t now) {
        Session& session = sessions_[number];
        static_assert(SubmitLine::kIds % kInFlightMax == 0 && SubmitLine::kFirstId % kInFlightMax == 0);
        uint64_t& sent_ns = session.sent_ns[id % kInFlightMax];
        if (sent_ns == 0) {
            ++report_.stray_replies;
            return;
        }
        if (measuring_) {
            report_.ack.add(now - sent_ns);
            if (message.result == "true") {
                ++report_.accepted;
            } else {
                ++report_.rejected[static_cast<int>(number_of(element_of(message.error, 0), 0))];
            }
        }
        sent_ns = 0;
        --session.in_flight;
        --in_flight_;
        if (submitting_ && options_.rate == 0) submit(number, now_ns());
    }

    // Open loop: every share that has become due goes to the next session in turn.
    void submit_due_shares() {
        const uint64_t now = now_ns();
        const double interval_ns = 1e9 / options_.rate;
        for (uint32_t sent = 0; sent < kDueSharesMax && next_due_ns_ <= static_cast<double>(now); ++sent) {
            const auto due_ns = static_cast<uint64_t>(next_due_ns_);
            next_due_ns_ += interval_ns;
            do {
                turn_ = (turn_ + 1) % options_.sessions;
            } while (sessions_[turn_].state != State::Mining);
            if (measuring_) report_.lag_max_ns = std::max(report_.lag_max_ns, now - due_ns);
            if (sessions_[turn_].sent_ns[sessions_[turn_].sequence % kInFlightMax] != 0) {
                report_.skipped += measuring_;
            } else {
                submit(turn_, now_ns());
            }
            if (mining_ == 0) return;
        }
    }

    // The loop

    void loop_until(uint64_t end) {
        while (now_ns() < end && mining_ > 0) {
            uint64_t wake_at = end;
            if (submitting_ && options_.rate > 0) {
                submit_due_shares();
                wake_at = std::min(end, static_cast<uint64_t>(next_due_ns_));
            }
            poll(wake_at);
        }
    }

    // Waits until a socket is ready or `wake_at` has come, and serves what is ready.
    void poll(uint64_t wake_at) {
        const bool waits = wake_at > now_ns();
        if (waits && wake_at != timer_set_to_) {  // epoll's own time-out is no finer than a millisecond
            itimerspec time{};
            time.it_value.tv_sec = static_cast<time_t>(wake_at / kSecond);
            time.it_value.tv_nsec = static_cast<long>(wake_at % kSecond);
            timerfd_settime(timer_, TFD_TIMER_ABSTIME, &time, nullptr);
            timer_set_to_ = wake_at;
        }
        const auto room = static_cast<int>(events_.size());
        const int count = epoll_wait(epoll_, events_.data(), room, waits ? -1 : 0);
        if (count < 0 && errno != EINTR) throw std::runtime_error("epoll_wait failed");
        for (int i = 0; i < count; ++i) {
            const epoll_event& event = events_[static_cast<size_t>(i)];
            const uint32_t number = event.data.u32;
            if (number == kTimer) {
                uint64_t expirations = 0;
                if (read(timer_, &expirations, sizeof expirations) > 0) timer_set_to_ = 0;
            } else if (sessions_[number].state == State::Connecting) {
                connected(number);
            } else {
                const Session& session = sessions_[number];
                if (session.fd >= 0 && (event.events & EPOLLOUT)) send_rest(number);
                if (session.fd >= 0 && (event.events & (EPOLLIN | EPOLLERR | EPOLLHUP))) receive(number);
            }
        }
    }

    const Options options_;
    sockaddr_in server_{};
    int epoll_ = -1, timer_ = -1;
    uint64_t timer_set_to_ = 0;
    std::vector<Session> sessions_;
    std::deque<std::pair<uint64_t, uint32_t>> retries_;  // when, and which session
    std::array<epoll_event, 512> events_{};
    std::array<char, kReceiveBytes> buffer_{};
    std::vector<Job> jobs_;
    std::unordered_map<std::string, uint32_t> job_numbers_;
    std::string last_notify_, last_failure_ = "none";  // all sessions get the same line: parsed once
    uint32_t last_notify_job_ = kNoJob;
    uint32_t mining_ = 0, turn_ = 0;
    uint64_t in_flight_ = 0;
    double next_due_ns_ = 0;
    bool established_ = false, submitting_ = false, measuring_ = false;
    Report report_;
};

}  // namespace load
