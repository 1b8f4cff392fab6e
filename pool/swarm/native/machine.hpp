// One simulated machine on one connection, without I/O: a server's bytes in, the machine's lines out. How it speaks
// is its profile's. Its shares are real: a nonce is submitted as good only if its header meets the target that was
// in force when the work came.
//
//     Off --connected()--> Asking --the answers, and a job--> Mining --disconnected()--> Off
//
// Whatever ends the conversation is in `ended`, in words; whoever owns the connection closes it then. Knows nothing of
// sockets and of when shares are due.
#pragma once
#include <array>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "report.hpp"
#include "wire.hpp"
#include "work.hpp"

namespace angara::swarm {

constexpr uint32_t kInFlightMax = 16;             // shares of one machine without an answer
constexpr Ns kAnswerMax = 60 * kSecond;           // a share without an answer for longer is given up
constexpr size_t kLineBytesMax = 256 * 1024;      // a job with 32 branch nodes and a coinbase of 100 kB, in hex
constexpr size_t kPartialBytesMax = 256ULL << 20;  // of lines without an end, of all machines together
constexpr size_t kOutBytesMax = 64 * 1024;        // more that a server does not read ends the connection
constexpr size_t kReplyIdMax = 64;                // bytes of a request's id that are echoed
constexpr uint32_t kBadLinesMax = 10;             // that are no JSON

enum class Ask : uint8_t { Configure, Subscribe, Authorize, Other };

// A request of the handshake. `text` is the line behind its id, with {worker} for the machine's name.
struct Step {
    Ask ask = Ask::Other;
    bool waits = true;  // for the answer, before it asks on
    std::string text;
};

enum class Pong : uint8_t { Result, Request, Silent };

// How a vendor's firmware speaks. All that is known of vendors is in pool/swarm/profiles.py.
struct Profile {
    std::string name, agent;
    std::vector<Step> steps;
    uint32_t mask = 0;                // what it can roll
    bool always_six = false;          // rolled bits in every submit, configured or not
    bool fixed_id = false;            // the same id in every submit
    bool difficulty_at_once = false;  // not with the next job
    bool obeys_reconnect = true;
    Pong pong = Pong::Result;
};

// Of the whole swarm.
struct Shared {
    double late = 0;  // so many of real shares are of work that is stale
    Report report;
    Jobs jobs;
    std::mt19937_64 random;
    size_t partial_bytes = 0;

    double chance() { return std::uniform_real_distribution<double>(0, 1)(random); }
};

class Machine {
  public:
    enum class State : uint8_t { Off, Asking, Mining };

    Machine(const Profile& profile, std::string worker) : profile_(&profile), worker_(std::move(worker)) {}

    State state() const { return state_; }
    uint32_t in_flight() const { return in_flight_; }
    double hashes_of_a_share() const { return work_.hashes; }
    double difficulty() const { return difficulty_; }  // as it was last told, or Stratum's

    // The first requests are in `out`.
    void connected(Shared& shared);
    void disconnected(Shared& shared);

    // Takes bytes of the server, lines or pieces of them.
    void receive(std::string_view bytes, bool slow, Ns now, Shared& shared);

    // Whether it may submit one more; what has no answer for long is given up.
    bool may_submit(Ns now, Shared& shared);

    // Works on one real share, for so many hashes at most. True when its line is in `out`.
    bool work_on_share(uint64_t& hashes_left, Ns now, Shared& shared);

    // Submits one that is wrong, in a way that chance chooses.
    void submit_bad(uint64_t& hashes_left, Ns now, Shared& shared);

    std::string out;             // for the server
    std::string ended;           // why the conversation is over, or nothing
    bool told_to_leave = false;  // it was by client.reconnect
    bool pace_changed = false;   // a share takes more or fewer hashes than before

  private:
    struct Flight {
        Ns sent_ns = 0;  // 0: free
        Kind kind = Kind::Good;
    };

    void line(std::string_view text, bool slow, Ns now, Shared& shared);
    void reply(const Message& message, bool slow, Ns now, Shared& shared);
    void step_answered(const Step& step, const Message& message);
    void share_answered(uint32_t id, const Message& message, bool slow, Ns now, Shared& shared);
    void request(const Message& message, Shared& shared);
    void answer(const Message& message, Shared& shared);
    void notified(std::shared_ptr<const Job> job, size_t bytes, Ns now, Shared& shared);
    void set_difficulty(std::string_view text);
    void set_extranonce(std::string_view extranonce1, std::string_view size);
    void ask_on();
    void become_ready();

    bool find(const Work& work, bool meeting, uint64_t& hashes_left, uint32_t& nonce, Shared& shared);
    void begin(const Work& work, Shared& shared);
    void format(SubmitLine& line, std::string_view job, std::string_view ntime) const;
    void submit(Kind kind, uint32_t nonce, SubmitLine& line, Ns now, Shared& shared);

    const Profile* profile_;
    std::string worker_;  // as it stands between quotes
    State state_ = State::Off;
    size_t next_step_ = 0, waits_for_ = 0;  // a step's id is its place, from 1; 0: for nothing
    bool subscribed_ = false, authorised_ = false, configured_ = false;
    uint32_t mask_ = 0, bad_lines_ = 0;
    std::string extranonce1_, partial_;
    uint32_t extranonce2_size_ = 0;
    double difficulty_ = 1;  // Stratum's, until another is told
    Work work_, stale_work_;
    Search search_;
    bool search_is_stale_ = false;  // it is in stale_work_
    std::optional<bool> late_;  // whether the share that is worked on is to be of stale_work_
    uint64_t extranonce2_ = 0;
    uint32_t sequence_ = 0, in_flight_ = 0, last_nonce_ = 0;
    bool formatted_ = false, submitted_ = false;  // the line is this search's; last_nonce_ was submitted with it
    SubmitLine submit_line_;
    std::array<Flight, kInFlightMax> flights_{};  // by sequence modulo its size
};

}  // namespace angara::swarm
