// Drives the sockets of sessions with arbitrary input, and stops the process when a promise is broken.
//
// The input is a program: miners come over real socket pairs with small buffers, say anything, read late or a
// few bytes at a time, hang up with bytes on their way, and leave while others are read or answered; whoever
// calls does what the pump in Python does, in any order. Every byte is counted: what a miner has read, what its
// socket holds and what waits to be flushed is, in this order, what it was told; and every line that was
// read is answered or handed back. Linux, as wires.cpp's reading is.
// Built with libFuzzer (make fuzz), or with a main() of its own that makes up inputs (make sanitize).
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "engine.hpp"
#include "fuzz_input.hpp"
#include "fuzz_promises.hpp"
#include "sends.hpp"
#include "wires.hpp"

namespace {

using namespace angara;

constexpr size_t kLineBytesMax = 200;  // small, so that lines often reach it
constexpr size_t kMiners = 3;
constexpr size_t kCheckEvery = 4;  // rounds: a system call for each miner; and at the end of an input
constexpr size_t kOperationsMax = 300;
constexpr int kSocketBytes = 1;            // the kernel makes it its least: a few replies, so that many are cut
constexpr size_t kRepliesAtOnceMax = 200;  // of a round of sends
constexpr size_t kChatter = 100;           // shares, each judged by itself
constexpr size_t kNobodySends = 2 * 2048;  // beside the miners': so many that a second thread takes part

struct Miner {
    bool open = false;
    uint32_t session = 0;
    int ours = -1, its = -1;  // both ends of its connection; its own is -1 once it has hung up
    bool looked_at = false;   // somebody looks at what passes: neither read nor sent natively
    bool held = false;        // not read for now
    bool half_closed = false;
    bool line_waits = false;        // handed back, and not answered yet
    std::string said;               // what its socket took
    std::string told, heard, rest;  // all that it is told; what it has read; what waits to be flushed
    size_t submits = 0, answers = 0, lines = 0;
};

struct Kept {  // a reply in a batch, as it is remembered here
    size_t number;  // of the miner's join
    std::string text;
};

class World {
  public:
    explicit World(fuzz::Input input)
        : input_(input), engine_(kLineBytesMax, sha256::chosen(), 4), epoll_(epoll_create1(0)) {
        engine_.add_channel(1);
    }
    ~World() {
        for (Miner& miner : miners_)
            if (miner.open) leave(miner);
        close(epoll_);
    }
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    void run() {
        for (size_t at = 0; at < kMiners; ++at) join(at);
        for (size_t i = 0; i < kOperationsMax && !input_.empty(); ++i) operate();
        finish();
    }

  private:
    void operate() {
        const size_t at = input_.below(kMiners);
        Miner& miner = miners_[at];
        if (!miner.open) join(at);
        switch (input_.below(24)) {
            case 0: return say(miner, input_.text(input_.byte()));
            case 1: return say(miner, std::string(1 + input_.below(24) * kLineBytesMax, 'x'));
            case 2: return say(miner, other_line(miner));
            case 3: return say(miner, std::string(input_.below(8), '\n'));
            case 4: return hang_up(miner);
            case 5: return half_close(miner);
            case 6: return leave(miner);
            case 7: return look_at(miner, !miner.looked_at);
            case 8: return hold(miner, !miner.held);
            case 9: return go_on(miner);
            case 10: return publish();
            case 11: return listen(miner, input_.byte());
            case 12: return listen(miner, SIZE_MAX);
            case 13: return judge();
            case 14: return commit();
            case 15: return send(1 + input_.below(kRepliesAtOnceMax));
            case 16: return send(1);
            case 17: return read(1);
            case 18:
            case 19: return read(kMiners);
            case 20: return input_.below(8) == 0 ? chatter(miner) : judge();
            default: return say(miner, submits(1 + input_.below(40)));
        }
    }

    // Everybody is read, judged, answered and flushed; nothing is missing then.
    void finish() {
        for (Miner& miner : miners_)
            if (miner.open && miner.line_waits) go_on(miner);
        for (bool more = true; more;) more = send_round(kRepliesAtOnceMax);
        judge();
        commit();
        for (bool more = true; more;) more = send_round(kRepliesAtOnceMax);
        check_all();
        for (Miner& miner : miners_) {
            while (miner.open && miner.its >= 0 && (unread(miner.its) > 0 || !miner.rest.empty())) {
                listen(miner, SIZE_MAX);
                if (!miner.rest.empty()) flush(miner);
            }
            require(!miner.open || miner.its < 0 || miner.heard == miner.told, "a miner that reads gets everything");
        }
    }

    // The miners

    void join(size_t at) {
        int ends[2];
        require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0, "a pair of sockets can be had");
        for (const int end : ends) setsockopt(end, SOL_SOCKET, SO_SNDBUF, &kSocketBytes, sizeof kSocketBytes);
        Miner& miner = miners_[at] = Miner{};
        numbers_[at] = ++joined_;
        miner.open = true;
        miner.ours = ends[0];
        miner.its = ends[1];
        miner.session = engine_.open_session();
        engine_.subscribe(miner.session, 1, "abcd", 4, 0);
        engine_.authorise(miner.session, "a", static_cast<uint32_t>(joined_));
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.fd = miner.ours;
        require(epoll_ctl(epoll_, EPOLL_CTL_ADD, miner.ours, &event) == 0, "a socket can be watched");
        rewire(miner);
    }

    void say(Miner& miner, const std::string& words) {
        if (miner.its < 0 || miner.half_closed) return;
        const ssize_t taken = ::send(miner.its, words.data(), words.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (taken > 0) miner.said.append(words, 0, static_cast<size_t>(taken));
    }

    static std::string submits(size_t count) {
        std::string words;
        for (size_t i = 0; i < count; ++i)
            words += R"({"id":)" + std::to_string(i) +
                     R"(,"method":"mining.submit","params":["a","1","00000000","00000000","00000000"]})" + "\n";
        return words;
    }

    // With what only this miner says in it.
    std::string other_line(const Miner& miner) {
        return R"({"id":1,"method":"mining.ping","params":["miner )" + std::to_string(number_of(miner)) + "\"]}\n";
    }
    size_t number_of(const Miner& miner) const { return numbers_[static_cast<size_t>(&miner - miners_.data())]; }

    void listen(Miner& miner, size_t size_max) {
        if (miner.its < 0) return;
        char buffer[8192];
        const ssize_t size = ::recv(miner.its, buffer, std::min(size_max, sizeof buffer), MSG_DONTWAIT);
        if (size > 0) miner.heard.append(buffer, static_cast<size_t>(size));
        require(std::string_view(miner.told).starts_with(miner.heard), "a miner hears what it is told, in this order");
    }

    // With bytes that it has not read, it is a reset.
    void hang_up(Miner& miner) {
        if (miner.its >= 0) close(std::exchange(miner.its, -1));
    }

    // More replies in one batch than one system call takes; once in an input: it takes its time.
    void chatter(Miner& miner) {
        for (size_t i = std::exchange(chatter_, 2); i > 0; --i) {
            say(miner, submits(1));
            read(kMiners);
            judge();
        }
    }

    void half_close(Miner& miner) {
        if (miner.its < 0) return;
        shutdown(miner.its, SHUT_WR);
        miner.half_closed = true;
    }

    // What the pump does

    void rewire(Miner& miner) {
        wires_.set(miner.session, miner.ours, !miner.looked_at, !miner.looked_at && miner.rest.empty());
        epoll_event event{};
        event.events = (miner.held || miner.line_waits ? 0u : EPOLLIN) | (miner.rest.empty() ? 0u : EPOLLOUT);
        event.data.fd = miner.ours;
        epoll_ctl(epoll_, EPOLL_CTL_MOD, miner.ours, &event);
    }
    void look_at(Miner& miner, bool looked_at) {
        miner.looked_at = looked_at;
        rewire(miner);
    }
    void hold(Miner& miner, bool held) {
        miner.held = held;
        rewire(miner);
    }

    void leave(Miner& miner) {
        if (!miner.open) return;
        miner.open = false;
        epoll_ctl(epoll_, EPOLL_CTL_DEL, miner.ours, nullptr);
        close(miner.ours);
        hang_up(miner);
        engine_.close_session(miner.session);
        wires_.remove(miner.session);
    }

    Miner* of_session(uint32_t session) {
        for (Miner& miner : miners_)
            if (miner.open && miner.session == session) return &miner;
        return nullptr;
    }
    Miner* of_descriptor(int descriptor) {
        for (Miner& miner : miners_)
            if (miner.open && miner.ours == descriptor) return &miner;
        return nullptr;
    }

    void read(size_t events_max) {
        const Wires::Round& round = wires_.read(engine_, epoll_, events_max);
        require(round.ready.size() + round.lines.size() + round.ends.size() <= events_max, "a round has a limit");
        for (const Wires::Ready& it : round.ready) {
            Miner* const miner = of_descriptor(it.descriptor);
            require(miner != nullptr, "what is ready is a socket that somebody has");
            if (miner->open && (it.events & EPOLLOUT) != 0) flush(*miner);
            if (miner->open && (it.events & ~EPOLLOUT) != 0) read_here(*miner);
        }
        for (const Wires::Line& it : round.lines) {
            Miner* const miner = of_session(it.session);
            if (miner == nullptr) continue;  // it has left in this round
            require(!miner->looked_at, "who is looked at is not read natively");
            line(*miner, it.text);
        }
        for (const Wires::End& it : round.ends) {
            Miner* const miner = of_session(it.session);
            if (miner == nullptr) continue;
            const std::string reason = it.reason;
            require(reason != "left" || miner->its < 0 || miner->half_closed, "who has not hung up has not left");
            require(reason != "internal error", "no line is a mistake of ours");
            leave(*miner);
        }
        if (++rounds_ % kCheckEvery == 0) check_all();
    }

    void read_here(Miner& miner) {
        char buffer[512];
        const ssize_t size = ::recv(miner.ours, buffer, sizeof buffer, MSG_DONTWAIT);
        if (size < 0 && errno == EAGAIN) return;
        if (size <= 0) return leave(miner);
        if (miner.line_waits) return leave(miner);  // an error of a socket that is held: it ends
        feed(miner, {buffer, static_cast<size_t>(size)});
    }

    void feed(Miner& miner, std::string_view data) {
        std::string_view text;
        switch (engine_.feed(miner.session, data, text)) {
            case Fed::kDone: return;
            case Fed::kLine: return line(miner, text);
            case Fed::kLineTooLong: return leave(miner);
        }
    }

    // A line that is no share: answered now, or when its turn comes.
    void line(Miner& miner, std::string_view text) {
        require(miner.said.find(text) != std::string::npos, "a line was said by whose line it is");
        ++miner.lines;
        miner.line_waits = true;
        rewire(miner);
        if (input_.below(2) != 0) go_on(miner);
    }

    void go_on(Miner& miner) {
        if (!miner.open || !miner.line_waits) return;
        miner.line_waits = false;
        rewire(miner);
        tell(miner, std::string("{\"id\":1,\"result\":true,\"error\":null}\n"));
        if (miner.open) feed(miner, "");
    }

    void check_all() const {
        for (const Miner& miner : miners_) {
            check_told(miner);
            if (miner.open) check_lines(miner);
        }
    }

    void check_lines(const Miner& miner) const {
        if (miner.line_waits) return;  // and the engine holds what is behind it
        const size_t fed = miner.said.size() - unread(miner.ours);
        size_t count = 0;
        for (size_t begin = 0, end; (end = miner.said.find('\n', begin)) < fed; begin = end + 1)
            count += miner.said.find_first_not_of(" \t\r", begin) < end ? 1 : 0;
        require(miner.lines + miner.answers <= count, "nobody is answered what he has not said");
        if (engine_.queued() == 0) require(miner.lines + miner.answers == count, "every line that is read is answered");
    }

    static size_t unread(int descriptor) {
        int size = 0;
        require(ioctl(descriptor, FIONREAD, &size) == 0, "a socket says what it holds");
        return static_cast<size_t>(size);
    }

    void judge() {
        Batch batch;
        engine_.validate(batch);
        for (const Reply& reply : batch.replies) {
            Miner* const miner = of_session(reply.session);
            if (miner == nullptr) continue;
            const std::string text = batch.bytes.substr(reply.begin, reply.end - reply.begin);
            miner->answers += static_cast<size_t>(std::ranges::count(text, '\n'));
            if (!wires_.writes(reply.session)) {
                tell(*miner, text);
                continue;
            }
            wires_.keep(reply.session, text);
            open_.push_back({number_of(*miner), text});
            kept_bytes_ += text.size();
            ++kept_;
        }
        const auto [count, bytes] = wires_.kept();
        require(count == std::exchange(kept_, 0) && bytes == std::exchange(kept_bytes_, 0), "what is kept is counted");
    }

    void commit() {
        if (sent_ < closed_.size()) return;
        wires_.close_batch();
        closed_ = std::exchange(open_, {});
        sent_ = 0;
    }

    void send(size_t replies_max) { send_round(replies_max); }

    bool send_round(size_t replies_max) {
        std::vector<Wires::Rest> rests;
        const bool more = wires_.send(replies_max, rests);
        for (size_t left = replies_max; left > 0 && sent_ < closed_.size(); --left, ++sent_)
            for (Miner& miner : miners_)
                if (miner.open && number_of(miner) == closed_[sent_].number) miner.told += closed_[sent_].text;
        require(more == (sent_ < closed_.size()), "a batch ends with its last reply");
        for (const Wires::Rest& it : rests) {
            Miner* const miner = of_session(it.session);
            require(miner != nullptr && !it.data.empty(), "what is not sent is somebody's");
            miner->rest += it.data;
            rewire(*miner);
        }
        if (++rounds_ % kCheckEvery == 0) check_all();
        return more;
    }

    // Through send_all, as everything that is no reply to a share.
    void tell(Miner& miner, std::string words) {
        miner.told += words;
        if (!miner.rest.empty()) {
            miner.rest += words;
            return;
        }
        Send one{miner.ours, words};
        send_all({&one, 1});
        told(miner, one);
    }

    void told(Miner& miner, const Send& it) {
        if (it.taken < 0) {
            require(miner.its < 0, "whose socket holds has not lost it");
            return leave(miner);
        }
        require(static_cast<size_t>(it.taken) <= it.data.size(), "a socket takes no more than there is");
        require(it.taken > 0 || miner.its < 0 || unread(miner.its) > 0, "an empty socket takes something");
        miner.rest += it.data.substr(static_cast<size_t>(it.taken));
        if (!miner.rest.empty()) rewire(miner);
        check_told(miner);
    }

    // A job for everybody; once in some inputs for as many as more than one thread is for, of which most are gone.
    void publish() {
        const std::string job =
            R"({"method":"mining.notify","params":[)" + std::string(input_.below(256), '7') + "]}\n";
        std::vector<Send> sends(input_.below(64) == 0 ? std::exchange(nobody_sends_, 0) : 0, Send{-1, job});
        std::vector<Miner*> whose;
        const size_t nobodies = sends.size();
        for (Miner& miner : miners_) {
            if (!miner.open) continue;
            miner.told += job;
            if (!miner.rest.empty()) {
                miner.rest += job;
                continue;
            }
            whose.push_back(&miner);
            sends.push_back({miner.ours, job});
        }
        send_all(sends);
        for (size_t i = 0; i < nobodies; ++i) require(sends[i].taken == -EBADF, "nobody takes nothing");
        for (size_t i = 0; i < whose.size(); ++i) told(*whose[i], sends[nobodies + i]);
    }

    void flush(Miner& miner) {
        const ssize_t taken = ::send(miner.ours, miner.rest.data(), miner.rest.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (taken < 0 && errno == EAGAIN) return;
        if (taken < 0) return leave(miner);
        miner.rest.erase(0, static_cast<size_t>(taken));
        rewire(miner);
    }

    void check_told(const Miner& miner) const {
        if (!miner.open || miner.its < 0) return;
        require(miner.heard.size() + unread(miner.its) + miner.rest.size() == miner.told.size(),
                "no byte is lost, and none is told twice");
        require(miner.told.ends_with(miner.rest), "what waits is the end of what is told");
    }

    fuzz::Input input_;
    Engine engine_;
    Wires wires_;
    int epoll_;
    std::array<Miner, kMiners> miners_;
    std::array<size_t, kMiners> numbers_{};
    size_t joined_ = 0, nobody_sends_ = kNobodySends, chatter_ = kChatter;
    std::vector<Kept> open_, closed_;
    size_t rounds_ = 0, sent_ = 0, kept_ = 0, kept_bytes_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    World(fuzz::Input(data, size)).run();
    return 0;
}

#ifdef ANGARA_FUZZ_MAIN
int main(int argc, char** argv) { return fuzz::run_made_up(argc, argv, LLVMFuzzerTestOneInput); }
#endif
