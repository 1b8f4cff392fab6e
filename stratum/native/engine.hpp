// The per-share half of a Stratum server: bytes of miners in, verdicts and reply bytes out.
//
// feed() parses mining.submit in place and queues it; validate() hashes everything queued, across all
// sessions, in SIMD lanes and judges it. Everything is judged at the facts of the moment it was fed:
// session, worker, job, the difficulty pinned to that job, version mask.
// Must not know: sockets, Python, clocks, money. One thread at a time (module.cpp enforces it).
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "duplicate_filter.hpp"
#include "sha256.hpp"
#include "submit_parser.hpp"
#include "tally_table.hpp"

namespace angara {

// Bounds. Exceeding one is an error to the caller or a verdict to the miner, never growth.
constexpr size_t kSessionsMax = size_t{1} << 20;  // far above any nofile
constexpr size_t kChannelsMax = 4096;             // one a solo tenant or upstream connection
constexpr size_t kJobsPerChannelMax = 512;        // 16 refreshes of 30 s, each with other work every second
constexpr size_t kWorkersPerSessionMax = 64;      // rental proxies authorise a handful
constexpr size_t kWorkerNameMax = 127;            // PROTOCOL: longest name a miner may use
constexpr size_t kWorkerNameCut = 63;             // where some firmware cuts it in submits
constexpr size_t kPinsMax = 9;                    // retargets that jobs still in use may span, and what was before
constexpr size_t kFormerPlacesMax = 4;            // moves that jobs still in use may span
constexpr size_t kBranchMax = 32;                 // 2^32 transactions
constexpr size_t kCoinbaseMax = 65536;            // upstream coinbases pay hundreds of outputs at most
constexpr size_t kExtranonceMax = 8;              // each of extranonce1 and extranonce2
// Shares between two validate() calls, and bytes of their ids: more than one round of 1,024 sockets delivers.
constexpr size_t kQueueMax = size_t{1} << 18;
constexpr size_t kQueuedIdBytesMax = size_t{1} << 26;
// Of credits that nobody has taken: four times what a full queue can bring.
constexpr size_t kCreditBytesMax = size_t{1} << 25;
constexpr size_t kKeptBytesMax = size_t{1} << 27;  // of shares that are kept: likewise
constexpr size_t kRecentSolutionsMax = 4096;  // a block is handed out once however often it is sent
constexpr size_t kIdleTipsMax = 1;            // two nodes that disagree go to and fro between two tips
// Works on one previous block that are told apart from repetitions: own work every second for eighteen hours.
// Then all of them are forgotten: an upstream needs hours to get there, and may repeat one work in 65,536.
constexpr size_t kWorksPerTipMax = size_t{1} << 16;
constexpr size_t kRetiredTablesMax = 1024;    // of old filters: many quick blocks, few shares on each
// Anybody can say any name: what is rejected is charged to a worker only as far as its accepted shares of the
// same session go. A machine that loses eight shares of nine is shown as it is; beyond that, and without an
// accepted share, only the session is charged. Saved up: some minutes of a machine that lost its upstream.
constexpr uint32_t kRejectsPerAccepted = 8;
constexpr uint32_t kRejectsEarnedMax = 4096;
constexpr size_t kCacheLine = 64;  // bytes, of the processors that there are
constexpr size_t kChunk = 64;      // shares hashed in lockstep: four times the widest lanes, stays in cache
constexpr uint32_t kNoWorker = 0;  // a share that no worker can be charged with
constexpr int kDifficultyLog2Min = -32;
constexpr int kDifficultyLog2Max = 63;
// In place of a difficulty: nobody mined with these extranonces, and it is not known any more who did.
constexpr int8_t kNotHeld = -128;
constexpr int8_t kForgotten = -127;

enum class Verdict : uint8_t {
    kAccepted,
    kMalformed,
    kNotSubscribed,
    kUnauthorised,
    kJobUnknown,
    kStale,
    kNtime,
    kVersion,
    kLowDifficulty,
    kDuplicate,
    kFilterFull,
    kUndelivered,  // good, but for an upstream that is gone: the miner is told that it was accepted
};
constexpr size_t kVerdicts = 12;

// A 256-bit number as four 64-bit words, the least significant first: how a hash compares to a target.
using Number = std::array<uint64_t, 4>;
using Hash = std::array<uint8_t, 32>;

inline Number number_from(const Hash& hash) {
    Number number{};
    for (size_t word = 0; word < 4; ++word)  // two loops: GCC makes loads of them
        for (size_t i = 0; i < 8; ++i) number[word] |= uint64_t{hash[8 * word + i]} << 8 * i;
    return number;
}

// The largest power of two not above the difficulty of a target.
int8_t floor_log2(const Number& target);

struct Job {
    uint64_t seq = 0;
    uint32_t channel = 0;
    uint32_t rate = 0;
    uint32_t version = 0, nbits = 0, ntime_min = 0, ntime_max = 0;
    Hash prevhash{};
    Number network_target{};
    std::optional<Number> forward_target;  // a share that meets it is handed out, and counted by whoever gets it
    std::vector<uint8_t> branch;  // 32 bytes a level
    // What a share is credited at most: where a block is easier than a share (regtest), each share is one.
    int8_t credit_log2_max = kDifficultyLog2Max;
    // The job that this work came with first, on whatever channel, and the difficulty for who gets it without
    // having been there when it came.
    uint64_t space = 0;
    int8_t start_log2 = kNotHeld;
    uint64_t tip = 0;             // the number of the Tip that it builds on
    // The coinbase, ready to hash: the state after its constant whole blocks, and the padded rest,
    // with the extranonces to be written at extranonce_at.
    sha256::State midstate;
    std::vector<uint8_t> tail;
    size_t extranonce_at = 0, extranonce_size = 0;
};

// A header that meets the network target or the forward target, and what it was made of.
struct Found {
    uint32_t worker = 0, channel = 0;
    uint64_t seq = 0;
    std::array<uint8_t, kExtranonceMax> extranonce1, extranonce2;
    uint8_t extranonce1_size = 0, extranonce2_size = 0;
    uint32_t ntime = 0, nonce = 0, version = 0;
    Hash hash{};
    int8_t difficulty_log2 = 0;
    bool tallied = true;  // false: an accepted share to be forwarded, which is in no tally yet
};

struct Reply {
    uint32_t session;
    size_t begin, end;  // in Batch::bytes
};

struct Batch {
    std::vector<Reply> replies;        // in the order in which their shares came
    std::string bytes;
    std::vector<Found> found;
    std::vector<uint32_t> retarget;    // sessions whose count of accepted shares is due
    std::array<uint64_t, kVerdicts> verdicts{};
    void clear();
};

// A share that was credited: the first bytes of its hash, and in which tally it is. Its layout is on disk.
struct Credit {
    std::array<uint8_t, DuplicateFilter::kKeyBytes> key;
    uint32_t worker, rate;
    int8_t difficulty_log2;
    uint8_t verdict;
    uint16_t forwarded;  // 1: in none yet
};
static_assert(sizeof(Credit) == 28);

// What was credited on one previous block.
struct Credits {
    Hash prevhash{};
    std::vector<Credit> shares;
};

// A good share as it was hashed, and what it was credited as. Its layout is on disk.
struct Kept {
    std::array<uint8_t, 80> header;
    uint32_t worker, rate;
    int8_t difficulty_log2;
    std::array<uint8_t, 3> zero;
};
static_assert(sizeof(Kept) == 92);

struct Counters {
    uint32_t accepted = 0, rejected = 0;
    uint32_t unearned = 0;       // of the rejected: charged to no worker
    uint32_t at_difficulty = 0;  // accepted at the difficulty pinned last: what vardiff counts
    uint32_t rolled = 0;         // version bits that any accepted share had rolled
};

enum class Fed { kDone, kLine, kLineTooLong };

class Engine {
  public:
    struct Pin {
        uint64_t from_seq;
        int8_t difficulty_log2;
    };
    // keep_credits: what is credited on jobs with a forward target is for collect_credits(). keep_log2: good
    // shares with a hash of difficulty 2^keep_log2 or more, whatever they are credited as, for collect_kept().
    Engine(size_t line_bytes_max, const sha256::Backend& backend, size_t duplicates_max, bool keep_credits = false,
           std::optional<int> keep_log2 = std::nullopt);

    void add_channel(uint32_t channel);
    void remove_channel(uint32_t channel);
    // Jobs on another previous hash than this one's are stale from here on, and with `clean` all earlier ones.
    // seq grows, from 1.
    // Work that this previous block has had before keeps its space and start difficulty: returned as they are.
    struct Space {
        uint64_t seq;
        int8_t start_log2;
    };
    Space add_job(Job job, std::string_view coinbase1, std::string_view coinbase2, size_t extranonce_size,
                  bool clean = false);
    // The same job under another id, for who is to start anew.
    void add_alias(uint32_t channel, uint64_t seq, uint64_t of_seq);
    // Jobs older than `seq` are unknown from here on.
    void drop_jobs_before(uint32_t channel, uint64_t seq);
    // Good shares of jobs older than `seq`, their aliases included, count as undelivered.
    void undelivered_before(uint32_t channel, uint64_t seq) { channel_at(channel).undelivered_before = seq; }

    uint32_t open_session();
    void close_session(uint32_t session);
    // The session mines this channel, with these extranonces, from the job from_seq on. What it has been given
    // before, where it was subscribed already and from_seq is not 0, stays on the channel that it came from.
    // Nothing is pinned with another extranonce1: what was pinned stays with the one that it was pinned for.
    void subscribe(uint32_t session, uint32_t channel, std::string_view extranonce1, size_t extranonce2_size,
                   uint64_t from_seq = 0);
    void authorise(uint32_t session, std::string_view name, uint32_t worker);
    // For what it mines now; jobs of a channel that it left keep their mask. False: it had that one.
    bool set_version_mask(uint32_t session, uint32_t mask);
    // Work that comes first with from_seq or later is judged and credited at 2^difficulty_log2, earlier work as
    // it was; kNotHeld: with these extranonces nobody mined from there on.
    void pin_difficulty(uint32_t session, int difficulty_log2, uint64_t from_seq);
    // What shares of a job of that channel are judged at, if the session mines it with the extranonces that it
    // has; kForgotten where nobody can say, or there is no such job.
    int8_t judged_at(uint32_t session, uint32_t channel, uint64_t seq);
    void set_retarget_after(uint32_t session, uint32_t accepted_shares);

    // Reads on until `data` is used up, or a line is found that is not a plain submit: then `line` views it
    // (in `data`, or in the engine until the next call), and feed(session, "") goes on behind it. When a
    // line is too long or it throws, what was not read yet is gone: close the session.
    Fed feed(uint32_t session, std::string_view data, std::string_view& line);
    // Have the processor fetch a session that something is to be fed to soon, and then what belongs to it: of
    // thousands that are not near, who asks ahead waits for none.
    [[gnu::always_inline]] void fetch(uint32_t session) const {
        const auto* const bytes = reinterpret_cast<const char*>(&sessions_[session]);
        for (size_t at = 0; at < sizeof sessions_[session]; at += kCacheLine) __builtin_prefetch(bytes + at, 1);
    }
    [[gnu::always_inline]] void fetch_more(uint32_t session) const {
        if (!sessions_[session]) return;
        __builtin_prefetch(sessions_[session]->workers.data(), 1);
        __builtin_prefetch(sessions_[session]->place.pins.data());
    }
    // A submit that Python had to decode.
    void submit(uint32_t session, const Submit& submit);
    void validate(Batch& batch);

    std::vector<Tally> collect_tallies() { return tallies_.take(); }
    // Rejected shares that no worker was charged with, by the worker that they named and by verdict.
    std::vector<Tally> collect_uncharged() { return uncharged_.take(); }
    std::vector<Credits> collect_credits();
    std::vector<Kept> collect_kept() { return std::exchange(kept_, {}); }
    // These were credited on the previous block before: by an engine before this one. A block that is new here is
    // the first to be forgotten, so the newest come first.
    void remember(const Hash& prevhash, std::string_view keys);
    // Until then it need not be checked, unless a share of it is rejected or it gets another difficulty.
    void rest(uint32_t session, double until_s);
    // Of the sessions whose number leaves this remainder, those that do not rest.
    std::vector<uint32_t> awake(uint32_t remainder, uint32_t divisor, double now_s);
    // When it was seen, here or by awake(), that there are as many accepted shares as there are.
    double heard_at(uint32_t session, double now_s) { return heard_at(session_at(session), now_s); }
    const std::vector<Pin>& pins(uint32_t session) { return session_at(session).place.pins; }
    const Counters& counters(uint32_t session) { return session_at(session).counters; }
    size_t queued() const { return queue_.size(); }
    // Whether it knows what was credited on this previous block.
    bool remembers(const Hash& prevhash) const {
        return std::ranges::find(tips_, prevhash, &Tip::prevhash) != tips_.end();
    }
    // Credited on the channel's previous block.
    size_t duplicates(uint32_t channel);

  private:
    struct Worker {
        std::string name;
        uint32_t worker;
        uint32_t rejects_earned = 0;  // that may still be charged to it
    };
    // A channel that a session mines or has mined, with what its shares there are made of.
    struct Place {
        uint32_t channel = 0;
        uint32_t version_mask = 0;
        uint8_t extranonce1_size = 0, extranonce2_size = 0;
        std::array<uint8_t, kExtranonceMax> extranonce1{};
        uint64_t from_seq = 0;  // the first job that is its own
        std::vector<Pin> pins;  // of this extranonce1, whoever had it; ascending from_seq
    };
    struct Session {
        bool subscribed = false, retarget_due = false;
        uint32_t retarget_after = 0;
        Place place;
        std::vector<Place> former;  // oldest first
        Counters counters;
        double rests_until_s = 0, heard_at_s = 0;
        uint32_t heard = 0, rejected = 0;  // of the counters: accepted at heard_at_s, rejected when it began to rest
        std::vector<Worker> workers;
        std::string buffer;     // an unfinished line, or lines behind one that Python has in hand
    };
    // A previous block and what was credited on it, by whatever channel. Kept for a while after the last
    // channel left: a node may come back to it, and its shares with it.
    struct Tip {
        uint64_t number;
        Hash prevhash;
        DuplicateFilter filter;
        std::map<std::array<uint64_t, 2>, Space> works;  // by the digest of what they are made of
        size_t channels = 0;                             // that mine on it now
    };
    struct Channel {
        std::vector<std::pair<uint64_t, std::shared_ptr<Job>>> jobs;  // ascending seq
        uint64_t last_seq = 0;
        uint64_t stale_before = 0, undelivered_before = 0;  // by the seq of the job that an alias repeats
        Tip* tip = nullptr;  // none before the first job
    };
    struct Share {
        uint32_t session = 0, worker = 0;
        Verdict verdict = Verdict::kAccepted;
        int8_t difficulty_log2 = 0;
        uint8_t extranonce1_size = 0, extranonce2_size = 0;
        std::array<uint8_t, kExtranonceMax> extranonce1{}, extranonce2{};
        uint32_t ntime = 0, nonce = 0, rolled = 0, version_mask = 0;
        uint32_t version = 0;  // as hashed
        const Job* job = nullptr;
        uint64_t seq = 0;
        uint32_t id_at = 0, id_size = 0;  // in ids_
    };

    Session& session_at(uint32_t session);
    static double heard_at(Session& session, double now_s);
    Channel& channel_at(uint32_t channel);
    static const std::shared_ptr<Job>* find_job(const Channel& channel, uint64_t seq);
    void append_job(Channel& channel, uint64_t seq, std::shared_ptr<Job> job);
    void drop_jobs(Channel& channel, size_t count);
    Tip& tip_on(const Hash& prevhash);
    void enter_tip(Channel& channel, const Hash& prevhash);
    void leave_tip(Channel& channel);
    Channel* live_channel(const Job& job);
    static Space first_seen(Tip& tip, const Job& job, std::string_view coinbase1, std::string_view coinbase2);
    static const Place& place_of(const Session& session, std::optional<uint64_t> seq);
    static int8_t difficulty_of(const Place& place, const Job& job);
    Verdict resolve(const Session& session, const Submit& submit, Share& share) const;
    static const Worker* find_worker(const Session& session, std::string_view name);
    void hash_queue();
    void hash_group(std::span<const uint32_t> group);
    void hash_differences(std::span<const uint32_t> group);
    void judge(size_t at, Batch& batch);
    Verdict judge_hashed(const Share& share, const Number& number, bool block, const Hash& hash);
    void keep_credit(const Share& share, Verdict verdict, bool forwarded, const Hash& hash);
    void keep_share(const Share& share, const Hash& merkle_root);
    bool is_news(const Hash& hash);
    static void hand_out(const Share& share, const Hash& hash, bool tallied, Batch& batch);
    void count(const Share& share, Verdict verdict, bool tallied, Batch& batch);
    static int8_t credited_log2(const Share& share);
    static bool charge(Session& session, uint32_t worker);
    void reply(const Share& share, Verdict verdict, Batch& batch) const;

    const size_t line_bytes_max_;
    const sha256::Backend& backend_;
    const size_t duplicates_max_;
    const bool keep_credits_;
    std::vector<Credits> credits_;
    size_t credit_bytes_ = 0;
    const std::optional<int> keep_log2_;
    std::vector<Kept> kept_;
    std::vector<std::optional<Session>> sessions_;
    std::vector<uint32_t> free_slots_, closing_;
    std::map<uint32_t, Channel> channels_;
    std::list<Tip> tips_;  // those that channels left at the end, the last one left last
    uint64_t last_tip_ = 0;
    std::vector<DuplicateFilter::Slots> retired_tables_;  // of filters of forgotten tips
    std::vector<std::shared_ptr<Job>> retired_jobs_;  // evicted, but shares in the queue may point at them
    std::vector<Share> queue_;
    std::string ids_;
    std::string text_;  // what feed() reads when a line came in pieces
    std::vector<uint32_t> order_;
    std::vector<Hash> hashes_;  // of the shares in queue_
    std::vector<Hash> merkle_roots_;  // the same, where shares are kept
    std::vector<uint8_t> blocks_;  // of kChunk coinbases or headers
    std::array<uint8_t, kChunk * 64> nodes_;
    std::array<uint8_t, kChunk * 32> roots_;
    TallyTable tallies_;
    TallyTable uncharged_;
    std::vector<Hash> recent_solutions_;
    size_t recent_at_ = 0;
};

}  // namespace angara
