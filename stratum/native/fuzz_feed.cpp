// Drives the engine with arbitrary input, and stops the process when it breaks a promise.
//
// The input is a program: sessions open, move between channels and close, jobs come and go, upstreams are
// lost, difficulties change, miners say anything in packets of any size. Two engines run it: one is fed whole
// packets and hashes in portable code, the other is fed a few bytes at a time and hashes in the code chosen
// for this CPU. They must agree in everything, and each with what is counted here and in fuzz_promises.hpp.
// Built with libFuzzer (make fuzz), or with a main() of its own that makes up inputs (make sanitize).
#include <algorithm>
#include <array>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "engine.hpp"
#include "fuzz_input.hpp"
#include "fuzz_promises.hpp"

namespace {

using namespace angara;

constexpr size_t kLineBytesMax = 200;  // small, so that lines often reach it
constexpr size_t kDuplicatesMax = 4;  // likewise
constexpr size_t kBurst = 2 * kChunk + 2;  // shares of one packet: more than are hashed together
constexpr size_t kMiners = 4;
constexpr uint32_t kNtimeMin = 1000, kNtimeMax = 1003;
constexpr size_t kOperationsMax = 400;

// What one feed() of a packet led to: the lines handed back, each with the number of shares queued before.
struct Heard {
    std::vector<std::pair<std::string, size_t>> lines;
    bool too_long = false;
    bool operator==(const Heard&) const = default;
};

Heard feed_in_pieces(Engine& engine, uint32_t session, std::string_view packet, size_t piece_size) {
    Heard heard;
    do {
        // A copy of exactly this size: the sanitizer sees every byte read beyond it.
        const std::string piece(packet.substr(0, piece_size));
        packet.remove_prefix(piece.size());
        std::string_view line;
        Fed fed = engine.feed(session, piece, line);
        for (; fed == Fed::kLine; fed = engine.feed(session, "", line)) heard.lines.emplace_back(line, engine.queued());
        heard.too_long = fed == Fed::kLineTooLong;
        if (heard.too_long) return heard;
    } while (!packet.empty());
    return heard;
}

struct Miner {
    uint32_t number = 0;  // of its join, from 1
    uint32_t session = 0;
    bool open = false;
    std::string unfinished;  // what it said after its last line feed
    uint32_t answers = 0;    // to this session
    uint32_t submits = 0;
};

class World {
  public:
    explicit World(fuzz::Input input)
        : input_(input),
          whole_(kLineBytesMax, *sha256::by_name("portable"), kDuplicatesMax, false, kKeepLog2),
          pieces_(kLineBytesMax, sha256::chosen(), kDuplicatesMax, false, kKeepLog2) {}

    void run() {
        for (const uint32_t channel : {1u, 2u}) {
            toggle_channel(channel);
            add_job(channel);
        }
        for (Miner& miner : miners_) join(miner);
        for (size_t i = 0; i < kOperationsMax && !input_.empty(); ++i) operate();
        validate();
        check_tallies();
    }

  private:
    template <class Action>
    bool both(Action action) {
        const bool refused = throws(whole_, action);
        require(refused == throws(pieces_, action), "engines agree on what they refuse");
        return !refused;
    }
    template <class Action>
    static bool throws(Engine& engine, Action action) {
        try {
            action(engine);
        } catch (const std::exception&) {
            return true;
        }
        return false;
    }

    void operate() {
        Miner& miner = miners_[input_.below(kMiners)];
        if (!miner.open) join(miner);
        const auto channel = static_cast<uint32_t>(1 + input_.below(2));
        const uint64_t seq = some_seq();
        switch (input_.below(32)) {
            case 0: return say(miner, input_.text(input_.byte()));
            case 1: return say(miner, "{\"id\":1,\"method\":\"mining.authorize\",\"params\":[\"a\"]}\n");
            case 2: return say(miner, "\r\n \n");
            case 3: return validate();
            case 4: return add_job(channel);
            case 5: return add_alias(channel, seq);
            case 6: return drop_jobs_before(channel, seq);
            case 7: return input_.below(4) == 0 ? toggle_channel(channel) : add_job(channel);
            case 8: return leave(miner);
            case 9: return retarget(miner, seq);
            case 10: return submit_from_python(miner);
            case 11: return check_tallies();
            case 12: return subscribe(miner, channel, seq + input_.below(2));
            case 13: subscribe(miner, channel, last_seq_ + 1); return add_job(channel);
            case 14: return undelivered_before(channel, seq + input_.below(2));
            default: return say(miner, submit_line());
        }
    }

    // Mostly one of the last ones.
    uint64_t some_seq() {
        static constexpr uint64_t back[] = {0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 7};
        return last_seq_ - std::min(last_seq_, back[input_.below(16)]);
    }

    void add_job(uint32_t channel) {
        Job job;
        job.seq = ++last_seq_;
        job.channel = channel;
        job.rate = static_cast<uint32_t>(input_.below(3));
        job.version = input_.below(4) == 0 ? 0x20c06000 : 0x20000000;  // some with bits inside the mask
        job.ntime_min = kNtimeMin;
        job.ntime_max = kNtimeMax;
        const auto tip = static_cast<uint8_t>(input_.below(kTips));
        job.prevhash[0] = tip;
        const bool blocks = input_.below(4) == 0;
        job.network_target.fill(blocks ? ~uint64_t{0} : 0);
        const size_t forward = input_.below(6);  // from most hashes down to none
        if (forward < 4) job.forward_target = Number{0, 0, 0, forward < 3 ? ~uint64_t{0} >> forward : 0};
        const bool clean = input_.below(8) == 0;
        if (input_.below(2) != 0) job.start_log2 = kDifficultyLog2Min;
        job.branch.resize(32 * input_.below(3), 7);
        const std::string coinbase1(input_.below(130), 'a'), coinbase2(input_.below(130), 'z');
        if (!both([&](Engine& e) { e.add_job(job, coinbase1, coinbase2, 8, clean); })) return;
        promises_.published({last_seq_, channel, tip, blocks, job.forward_target}, clean);
    }

    void add_alias(uint32_t channel, uint64_t of_seq) {
        if (both([&](Engine& e) { e.add_alias(channel, last_seq_ + 1, of_seq); }))
            promises_.repeated(++last_seq_, of_seq);
    }

    void drop_jobs_before(uint32_t channel, uint64_t seq) {
        both([=](Engine& e) { e.drop_jobs_before(channel, seq); });
    }

    void undelivered_before(uint32_t channel, uint64_t seq) {
        if (both([=](Engine& e) { e.undelivered_before(channel, seq); })) promises_.upstream_lost();
    }

    void toggle_channel(uint32_t channel) {
        if (both([=](Engine& e) { e.add_channel(channel); }))
            promises_.channel_added(channel);
        else if (both([=](Engine& e) { e.remove_channel(channel); }))
            promises_.channel_removed(channel);
    }

    void join(Miner& miner) {
        miner = Miner{};
        miner.open = true;
        miner.session = whole_.open_session();
        require(miner.session == pieces_.open_session(), "engines agree on session numbers");
        miner.number = ++joined_;
        const auto channel = static_cast<uint32_t>(1 + input_.below(2));
        const auto workers = static_cast<uint32_t>(std::min(input_.below(8), size_t{kWorkersOfMiner} - 1));
        set_version_mask(miner);
        both([&](Engine& e) {
            for (uint32_t worker = 1; worker <= workers; ++worker)
                e.authorise(miner.session, std::string(worker == 1 ? 1 : 70 + worker, 'a'),
                            miner.number * kWorkersOfMiner + worker);
        });
        subscribe(miner, channel, 0);
        both([&](Engine& e) {
            e.pin_difficulty(miner.session, kDifficultyLog2Min, last_seq_ / 2);
            e.set_retarget_after(miner.session, 2);
        });
    }

    void set_version_mask(const Miner& miner) {
        const auto mask = static_cast<uint32_t>(input_.below(2) ? 0x1fffe000 : 0);
        both([&](Engine& e) { e.set_version_mask(miner.session, mask); });
    }

    // A move, unless from_seq is 0 or it is the first time.
    void subscribe(const Miner& miner, uint32_t channel, uint64_t from_seq) {
        static const std::pair<std::string, size_t> extranonces[] = {
            {"abcd", 4}, {"abcd", 4}, {"abcd", 4},   {"efgh", 4},
            {"efgh", 4}, {"efgh", 4}, {"ijklmn", 2}, {"abcd", 8}};  // the last one fits no job
        const auto& given = extranonces[input_.below(8)];
        const bool taken = both([&](Engine& e) {
            e.subscribe(miner.session, channel, given.first, given.second, from_seq);
            if (from_seq != 0) e.pin_difficulty(miner.session, kDifficultyLog2Min, from_seq);
        });
        promises_.subscribed(miner.number, channel, given.first, given.second, from_seq, taken);
    }

    void leave(Miner& miner) {
        both([&](Engine& e) { e.close_session(miner.session); });
        miner.open = false;
    }

    void retarget(Miner& miner, uint64_t from_seq) {
        const int log2 = kDifficultyLog2Min + static_cast<int>(input_.below(4));
        both([&](Engine& e) { e.pin_difficulty(miner.session, log2, from_seq); });
        if (input_.below(2)) set_version_mask(miner);
    }

    std::string submit_line() {
        static const std::string workers[] = {"a", "a", "a", "a", "a", "a", "b", std::string(kWorkerNameCut, 'a')};
        static const std::string rolled_bits[] = {"", "", ",\"00002000\"", ",\"20000000\""};
        static const std::string ids[] = {"\"id\":7,",
                                          "\"id\": \"x\", ",
                                          "\"id\":null,",
                                          "\"id\":-1.5E+3,",
                                          "\"id\":{},",
                                          "",
                                          "\"jsonrpc\":\"2.0\",\"id\":false,"};
        const size_t kind = input_.below(8);
        const auto seq = static_cast<unsigned long long>(some_seq());
        const auto ntime = static_cast<unsigned>(kNtimeMin - 1 + input_.below(6));
        const auto nonce = static_cast<unsigned>(input_.below(8));
        const int digits = input_.below(8) == 0 ? 4 : 8;  // of the extranonce2
        const char* const params =
            kind == 0 ? R"(["%s","%llX","%0*x",%u,%u%s])" : R"(["%s", "%llx", "%0*x", "%x", "%x"%s])";
        char text[200];
        std::snprintf(text, sizeof text, params, workers[input_.below(8)].c_str(), seq, digits, nonce / 4, ntime,
                      nonce % 4, rolled_bits[input_.below(4)].c_str());
        std::string line = "{" + ids[input_.below(7)] + R"("method":"mining.submit","params":)" + text;
        line += "}\r\n";
        if (kind == 1) line[input_.below(line.size())] = static_cast<char>(input_.byte());
        if (kind == 2) line.insert(input_.below(line.size()), input_.text(input_.below(80)));
        if (kind != 3) return line;
        std::string burst;
        for (size_t lines = std::exchange(burst_, 2); lines > 0; --lines) burst += line;
        return burst;
    }

    void say(Miner& miner, const std::string& packet) {
        const size_t piece_size = (1 + input_.below(24)) * (1 + packet.size() / 256);
        const size_t queued_before = whole_.queued();
        const Heard heard = feed_in_pieces(whole_, miner.session, packet, packet.size() + 1);
        require(heard == feed_in_pieces(pieces_, miner.session, packet, piece_size), "pieces do not matter");
        const size_t submits = whole_.queued() - queued_before;
        require(whole_.queued() == pieces_.queued(), "engines queue the same");
        miner.submits += static_cast<uint32_t>(submits);
        if (heard.too_long) return leave(miner);

        miner.unfinished += packet;
        size_t said = 0;
        for (size_t end; (end = miner.unfinished.find('\n')) != std::string::npos;) {
            if (miner.unfinished.find_first_not_of(" \t\r") < end) ++said;
            miner.unfinished.erase(0, end + 1);
        }
        require(said == submits + heard.lines.size(), "every line is a share or handed back");
        require(miner.unfinished.size() <= kLineBytesMax, "a line has a limit");
    }

    void submit_from_python(Miner& miner) {
        Submit submit;
        const std::string field = input_.text(input_.below(20));
        submit.id = "{}";
        submit.count = 5 + input_.below(2);
        for (size_t i = 0; i < submit.count; ++i) submit.params[i].text = field;
        const size_t queued_before = whole_.queued();
        both([&](Engine& e) { e.submit(miner.session, submit); });
        miner.submits += static_cast<uint32_t>(whole_.queued() - queued_before);
    }

    void validate() {
        const size_t queued = whole_.queued();
        Batch batch, other;
        whole_.validate(batch);
        pieces_.validate(other);
        require(batch.bytes == other.bytes && batch.verdicts == other.verdicts, "engines judge the same");
        require(batch.retarget == other.retarget, "engines see the same retargets");
        require(std::ranges::equal(batch.found, other.found, alike), "engines find the same");

        uint64_t judged = 0;
        for (const uint64_t count : batch.verdicts) judged += count;
        require(judged == queued && whole_.queued() == 0, "every share has one verdict");
        check_replies(batch, queued);
        promises_.judged(batch);
        for (const Miner& miner : miners_) {
            if (!miner.open) continue;
            const Counters& counters = whole_.counters(miner.session);
            require(miner.answers == miner.submits, "every share is answered");
            require(counters.accepted + counters.rejected == miner.answers, "counters count every share");
            require(counters.at_difficulty <= counters.accepted, "only accepted shares count for vardiff");
        }
        for (const uint32_t channel : {1u, 2u})
            both([=](Engine& e) { require(e.duplicates(channel) <= kDuplicatesMax, "the filter has a limit"); });
    }

    static bool alike(const Found& a, const Found& b) {
        return a.hash == b.hash && a.tallied == b.tallied && a.channel == b.channel && a.seq == b.seq &&
               a.worker == b.worker && a.difficulty_log2 == b.difficulty_log2 && a.version == b.version &&
               a.ntime == b.ntime && a.nonce == b.nonce && a.extranonce1_size == b.extranonce1_size &&
               a.extranonce2_size == b.extranonce2_size;
    }

    static bool alike_kept(const Kept& a, const Kept& b) {
        return a.header == b.header && a.worker == b.worker && a.rate == b.rate &&
               a.difficulty_log2 == b.difficulty_log2;
    }

    void check_replies(const Batch& batch, size_t queued) {
        size_t at = 0;
        for (const Reply& reply : batch.replies) {
            require(reply.begin == at && reply.end > at, "replies follow each other");
            at = reply.end;
            const std::string text = batch.bytes.substr(reply.begin, reply.end - reply.begin);
            const auto answers = static_cast<uint32_t>(std::ranges::count(text, '\n'));
            for (Miner& miner : miners_)
                if (miner.open && miner.session == reply.session) miner.answers += answers;
        }
        require(at == batch.bytes.size(), "no reply belongs to nobody");
        const auto answers = static_cast<size_t>(std::ranges::count(batch.bytes, '\n'));
        require(answers == queued, "every share has one reply");
    }

    void check_tallies() {
        const std::vector<Tally> tallies = whole_.collect_tallies(), others = pieces_.collect_tallies();
        require(std::ranges::equal(tallies, others,
                                   [](const Tally& a, const Tally& b) { return a.same_key(b) && a.count == b.count; }),
                "engines tally the same");
        promises_.taken(tallies, whole_.collect_uncharged());
        pieces_.collect_uncharged();
        const std::vector<Kept> kept = whole_.collect_kept(), same = pieces_.collect_kept();
        require(std::ranges::equal(kept, same, alike_kept), "engines keep the same");
        promises_.kept(kept);
    }

    fuzz::Input input_;
    Engine whole_, pieces_;
    std::array<Miner, kMiners> miners_;
    uint64_t last_seq_ = 0;
    size_t burst_ = kBurst;  // once in an input: it takes its time
    uint32_t joined_ = 0;
    Promises promises_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    World(fuzz::Input(data, size)).run();
    return 0;
}

#ifdef ANGARA_FUZZ_MAIN
int main(int argc, char** argv) { return fuzz::run_made_up(argc, argv, LLVMFuzzerTestOneInput); }
#endif
