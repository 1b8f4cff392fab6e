// The connections of all machines of a swarm, and when each does what: one thread, one epoll, one heap of timers.
//
//     Off --restore()--> Queued --its turn--> Connecting --> Open --lost--> Waiting --back-off--> Queued
//      ^                                                       |
//      +------ restore() of who was cut ------- Cut <--cut()---+   silent: its socket stays, as of who has no power
//      +------ pause(), wherever it is: it says goodbye ------ any   wake() has it come again, after a while
//
// Connections are opened at a bounded rate, whatever happens. How a machine speaks, and hashing, are machine.hpp's.
#pragma once
#include <netinet/in.h>
#include <sys/epoll.h>

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <queue>
#include <string>
#include <vector>

#include "machine.hpp"
#include "tls.hpp"

namespace angara::swarm {

constexpr Ns kHandshakeMax = 60 * kSecond;  // from connect to work; then it comes again
constexpr Ns kSilenceMax = 180 * kSecond;   // servers send a job every minute; three without one, and it is left
constexpr Ns kBackoffMin = kSecond, kBackoffMax = 30 * kSecond;
constexpr Ns kSweep = kSecond / 4;              // between two looks at who is silent, and two sips of slow readers
constexpr Ns kConnectBurst = kSecond / 100;  // so much of the connection rate may be caught up with
constexpr Ns kHashBurst = kSecond / 50;      // and so much of the hashing budget
constexpr Ns kPaceMax = 1'000'000 * kSecond;  // a share in more than eleven days is none
constexpr size_t kSipBytes = 128;            // a slow reader's, each sweep
constexpr int kSlowBufferBytes = 4096;
constexpr size_t kReceiveBytes = 64 * 1024;
constexpr uint64_t kSliceHashes = 1024;     // between two looks at sockets: below a tenth of a millisecond
constexpr uint32_t kDueMax = 4096;          // timers, and shares, between two looks at sockets
constexpr uint32_t kSourceSessionsMax = 10'000;  // of one loopback address: it has 28,000 ports

enum class Power : uint8_t { Off, Queued, Connecting, Open, Waiting, Cut };

struct MachineOptions {
    std::string worker;  // as it stands between quotes in JSON
    uint32_t profile = 0, container = 0;
    bool slow = false;
};

struct Options {
    std::string address;  // numeric
    uint16_t port = 0;
    std::vector<Profile> profiles;
    std::vector<MachineOptions> machines;
    double shares_per_s = 0;  // of each machine
    double hashrate_hps = 0;  // of each machine, in place of that
    bool closed_loop = false;  // or one share in flight, always
    double hashing = 0.5;      // of a core, at most
    double connects_per_s = 1000;
    double bad = 0, late = 0;
    bool tls = false;
    std::string first_source;  // the first machine's own loopback address, the next ones' follow; empty: shared ones
    uint64_t seed = 1;
};

class Swarm {
  public:
    explicit Swarm(Options options);
    ~Swarm();
    Swarm(const Swarm&) = delete;
    Swarm& operator=(const Swarm&) = delete;

    // Moves bytes and time on; returns then, or as soon as a signal comes.
    void run(double seconds);

    // From now on shares are submitted, or no more.
    void submitting(bool on);

    // Power for all machines of the container, or all: they come one after the other, at the connection rate.
    void restore(std::optional<uint32_t> container);
    void cut(std::optional<uint32_t> container);

    // One machine that is told to rest closes its connection; one that is told to work comes after so long, if it is
    // off. Throws where there is no such machine.
    void pause(uint32_t number);
    void wake(uint32_t number, double after_s);

    // Counts from here on. How machines came and went is counted over all of it.
    void measure() { shared_.report = shared_.report.begun_anew(); }

    const Report& report() const { return shared_.report; }
    uint32_t mining(std::optional<uint32_t> container) const;
    uint64_t in_flight() const;
    uint64_t searching() const;  // shares that are due and not found yet
    std::pair<double, double> difficulties() const;  // the least and the most of those who mine; 0 without any
    double hashes_per_s() const { return hashes_per_s_; }

  private:
    struct Wire {
        int fd = -1;
        Power power = Power::Off;
        Tls tls;
        uint32_t events = 0, generation = 0;
        Ns connect_ns = 0, heard_ns = 0, backoff_ns = kBackoffMin;
        bool said_mining = false, slow = false, to_search = false, tls_wants_write = false;
        uint32_t container = 0, owed = 0, owed_bad = 0;  // shares that are due, real ones and wrong ones
        Ns due_ns = 0;                     // since when
        std::string unsent;
    };
    enum class Do : uint8_t { Connect, Share };
    struct Timer {
        Ns at;
        uint32_t number, generation;
        Do what;
        bool operator<(const Timer& other) const { return at > other.at; }  // the soonest on top
    };

    void resolve();
    in_addr source_of(uint32_t number) const;
    void watch(uint32_t number, uint32_t events);
    void queue(uint32_t number);
    void connect_due(Ns now);
    void connect_now(uint32_t number, Ns now);
    void ready(uint32_t number, uint32_t events);
    void connected(uint32_t number);
    void shut(uint32_t number, bool abort);
    void lose(uint32_t number, const std::string& reason);

    void read(uint32_t number, size_t bytes_max);
    Moved read_some(Wire& wire, char* into, size_t room, size_t& size);
    Moved write_some(Wire& wire, std::string_view bytes, size_t& size);
    void flush(uint32_t number);
    void after_lines(uint32_t number, Ns now);

    void pace(uint32_t number, Ns now);
    void timers_due(Ns now);
    void owe(uint32_t number, Ns now);
    void again(uint32_t number);
    void search(Ns now);
    void sweep(Ns now);
    Ns wake_at(Ns until, Ns now) const;
    void poll(Ns wake_at);

    Options options_;
    sockaddr_storage server_{};
    socklen_t server_size_ = 0;
    bool loopback_v4_ = false;
    uint32_t first_source_ = 0;  // 0: shared ones
    std::optional<TlsClient> tls_;
    int epoll_ = -1, timer_ = -1;
    Ns timer_set_to_ = 0, swept_ns_ = 0, connect_at_ns_ = 0, hashed_at_ns_ = 0;
    double hashes_per_s_ = 0, hashes_allowed_ = 0;
    bool submitting_ = false, interrupted_ = false;
    std::vector<Machine> machines_;
    std::vector<Wire> wires_;
    std::deque<uint32_t> queue_, to_search_;
    std::priority_queue<Timer> timers_;
    std::array<epoll_event, 512> events_{};
    std::vector<char> buffer_;
    Shared shared_;
};

}  // namespace angara::swarm
