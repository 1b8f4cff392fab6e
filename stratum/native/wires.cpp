#include "wires.hpp"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <stdexcept>
#include <utility>

#if defined(__linux__)
#include <sys/epoll.h>
#endif

namespace angara {
namespace {

constexpr size_t kReceiveBytes = 4096;  // some 25 shares: one socket cannot hold up a round
constexpr size_t kEventsMax = 1024;     // of a round
constexpr int kAhead = 4;               // so many are read while memory of one comes: a read is a microsecond
constexpr size_t kPiecesMax = 64;       // of one system call: replies to a miner that sends many shares at once

#ifndef MSG_NOSIGNAL  // Python ignores SIGPIPE anyway
#define MSG_NOSIGNAL 0
#endif

// Most have one share to be answered, and the kernel takes one piece for less than a list of one.
ssize_t send_pieces(int descriptor, std::span<iovec> pieces) {
    constexpr int kFlags = MSG_DONTWAIT | MSG_NOSIGNAL;
    if (pieces.size() == 1) return ::send(descriptor, pieces[0].iov_base, pieces[0].iov_len, kFlags);
    msghdr message{};
    message.msg_iov = pieces.data();
    message.msg_iovlen = static_cast<decltype(message.msg_iovlen)>(pieces.size());
    return ::sendmsg(descriptor, &message, kFlags);
}

}  // namespace

void Wires::set(uint32_t session, int descriptor, bool reads, bool writes) {
    if (descriptor < 0) throw std::invalid_argument("not a descriptor");
    const auto at = static_cast<size_t>(descriptor);
    if (wires_.size() <= session) wires_.resize(session + 1);
    if (sessions_.size() <= at) sessions_.resize(at + 1, kNobody);
    Wire& wire = wires_[session];
    wire.descriptor = descriptor;
    wire.reads = reads;
    wire.writes = writes;
    sessions_[at] = reads ? session : kNobody;
}

void Wires::remove(uint32_t session) {
    if (session >= wires_.size() || wires_[session].descriptor < 0) return;
    Wire& wire = wires_[session];
    sessions_[static_cast<size_t>(wire.descriptor)] = kNobody;
    wire = Wire{-1, wire.generation + 1, false, false};
}

const Wires::Round& Wires::read([[maybe_unused]] Engine& engine, [[maybe_unused]] int epoll,
                                [[maybe_unused]] size_t events_max) {
    round_.ready.clear();
    round_.lines.clear();
    round_.ends.clear();
#if defined(__linux__)
    std::array<epoll_event, kEventsMax> events;
    const int count = epoll_wait(epoll, events.data(), static_cast<int>(std::min(events_max, kEventsMax)), 0);
    const auto session_of = [&](int i) {
        const auto at = static_cast<size_t>(events[static_cast<size_t>(i)].data.fd);
        return at < sessions_.size() ? sessions_[at] : kNobody;
    };
    for (int i = 0; i < count; ++i) {
        if (i + 2 * kAhead < count && session_of(i + 2 * kAhead) != kNobody) engine.fetch(session_of(i + 2 * kAhead));
        if (i + kAhead < count && session_of(i + kAhead) != kNobody) engine.fetch_more(session_of(i + kAhead));
        const epoll_event& event = events[static_cast<size_t>(i)];
        const uint32_t session = session_of(i);
        if (event.events == EPOLLIN && session != kNobody)
            read_one(engine, event.data.fd, session);
        else
            round_.ready.push_back({event.data.fd, event.events});
    }
    return round_;
#else
    throw std::runtime_error("there is no epoll here");
#endif
}

void Wires::read_one(Engine& engine, int descriptor, uint32_t session) {
    char buffer[kReceiveBytes];
    const ssize_t size = ::recv(descriptor, buffer, sizeof buffer, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (size <= 0) {
        round_.ends.push_back({session, "left", {}});
        return;
    }
    std::string_view line;
    try {
        switch (engine.feed(session, {buffer, static_cast<size_t>(size)}, line)) {
            case Fed::kDone: return;
            case Fed::kLine: round_.lines.push_back({session, std::string(line)}); return;
            case Fed::kLineTooLong: round_.ends.push_back({session, "line too long", {}}); return;
        }
    } catch (const std::exception& error) {  // a mistake of ours about one miner must not cost the others their work
        round_.ends.push_back({session, "internal error", error.what()});
    }
}

void Wires::keep(uint32_t session, std::string_view reply) {
    open_.list.push_back({session, wires_[session].generation, open_.bytes.size(), reply.size()});
    open_.bytes.append(reply);
}

std::pair<size_t, size_t> Wires::kept() {
    const std::pair<size_t, size_t> since{open_.list.size() - counted_, open_.bytes.size() - counted_bytes_};
    counted_ = open_.list.size();
    counted_bytes_ = open_.bytes.size();
    return since;
}

void Wires::close_batch() {
    if (sent_ < closed_.list.size()) throw std::logic_error("the batch before is not sent yet");
    std::swap(open_, closed_);
    open_.list.clear();
    open_.bytes.clear();
    counted_ = counted_bytes_ = sent_ = 0;
}

bool Wires::send(size_t replies_max, std::vector<Rest>& rests) {
    const std::span all(closed_.list);
    const std::span replies = all.subspan(sent_, std::min(replies_max, all.size() - sent_));
    sent_ += replies.size();
    std::ranges::stable_sort(replies, std::less(), &Reply::session);
    for (size_t begin = 0, end = 0; begin < replies.size(); begin = end) {
        while (end < replies.size() && replies[end].session == replies[begin].session) ++end;
        send_to(replies.subspan(begin, end - begin), rests);
    }
    return sent_ < all.size();
}

// All of them are for one session.
void Wires::send_to(std::span<const Reply> replies, std::vector<Rest>& rests) const {
    const Wire& wire = wires_[replies[0].session];
    const auto view = [&](const Reply& it) { return std::string_view(closed_.bytes).substr(it.begin, it.size); };
    bool sends = wire.writes;
    for (size_t at = 0; at < replies.size();) {
        if (replies[at].generation != wire.generation) {  // it has left
            ++at;
            continue;
        }
        if (!sends) {
            rests.push_back({replies[at].session, std::string(view(replies[at]))});
            ++at;
            continue;
        }
        std::array<iovec, kPiecesMax> pieces;
        size_t count = 0, size = 0;
        for (; count < kPiecesMax && at < replies.size() && replies[at].generation == wire.generation; ++at) {
            const std::string_view piece = view(replies[at]);
            pieces[count++] = {const_cast<char*>(piece.data()), piece.size()};
            size += piece.size();
        }
        ssize_t taken = send_pieces(wire.descriptor, std::span(pieces).first(count));
        if (taken < 0) taken = 0;  // whoever writes the rest will hear why
        if (static_cast<size_t>(taken) == size) continue;
        sends = false;
        for (size_t i = 0; i < count; ++i) {
            const size_t skip = std::min(static_cast<size_t>(taken), pieces[i].iov_len);
            taken -= static_cast<ssize_t>(skip);
            if (skip == pieces[i].iov_len) continue;
            const char* const begin = static_cast<const char*>(pieces[i].iov_base);
            rests.push_back({replies[0].session, std::string(begin + skip, pieces[i].iov_len - skip)});
        }
    }
}

}  // namespace angara
