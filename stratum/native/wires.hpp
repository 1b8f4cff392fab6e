// The sockets of sessions: what miners send is read and fed to the engine, and replies that were kept for a
// commit are sent, a thousand sockets in one go and without Python. Whatever is no share, no plain reply or no
// healthy socket is left to whoever called. Knows nothing of what miners say, nor of commits.
//
// Invariants: a reply leaves on the socket of the session that it is for, or not at all; what one session is
// told keeps its order; nothing here waits.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine.hpp"

namespace angara {

class Wires {
  public:
    struct Ready {
        int descriptor;
        uint32_t events;  // of epoll
    };
    struct Line {
        uint32_t session;
        std::string text;
    };
    struct End {
        uint32_t session;
        const char* reason;
        std::string error;  // of ours, where it was that
    };
    struct Rest {
        uint32_t session;
        std::string data;
    };
    // What a round of reading leaves to others.
    struct Round {
        std::vector<Ready> ready;  // sockets that are not read here, or have something else to tell
        std::vector<Line> lines;   // that are no submits: the engine goes on behind them
        std::vector<End> ends;
    };

    // Whether this session's socket is read here, and whether replies to it may be sent here.
    void set(uint32_t session, int descriptor, bool reads, bool writes);
    // It has left, and what is kept for it is forgotten: before anything is read or sent again.
    void remove(uint32_t session);

    // Up to events_max of what is ready. Where there is no epoll: throws std::runtime_error.
    const Round& read(Engine& engine, int epoll, size_t events_max);

    bool writes(uint32_t session) const { return session < wires_.size() && wires_[session].writes; }
    void keep(uint32_t session, std::string_view reply);
    // Replies kept since the last call, and their bytes.
    std::pair<size_t, size_t> kept();
    // What is kept by now is in the commit that begins.
    void close_batch();
    // Sends up to replies_max of the closed batch; false when it has no more. `rests` gets what was not taken.
    bool send(size_t replies_max, std::vector<Rest>& rests);

  private:
    struct Wire {
        int descriptor = -1;
        uint32_t generation = 0;  // of the session's number, which others get after it
        bool reads = false, writes = false;
    };
    struct Reply {
        uint32_t session, generation;
        size_t begin, size;  // in the batch's bytes
    };
    struct Replies {
        std::vector<Reply> list;
        std::string bytes;
    };
    static constexpr uint32_t kNobody = UINT32_MAX;

    void read_one(Engine& engine, int descriptor, uint32_t session);
    void send_to(std::span<const Reply> replies, std::vector<Rest>& rests) const;

    std::vector<Wire> wires_;         // by session
    std::vector<uint32_t> sessions_;  // by descriptor, of those that are read here
    Round round_;
    Replies open_, closed_;
    size_t counted_ = 0, counted_bytes_ = 0;  // of open_: told by kept()
    size_t sent_ = 0;                         // of closed_
};

}  // namespace angara
