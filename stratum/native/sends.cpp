#include "sends.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <system_error>
#include <thread>

namespace angara {
namespace {

// A send is 5 to 10 us of the kernel's time, a thread 50 us. Replies, which come a thousand at a time, are not
// worth one: it is new blocks that are in a hurry, to thousands of miners at once.
constexpr size_t kSendsPerThread = 2048;
constexpr size_t kThreadsMax = 4;     // 22,400 miners in a twentieth of a second; the rest of the machine lives on
constexpr size_t kSendsAtOnce = 64;  // that a thread takes: whoever is slower takes fewer

#ifndef MSG_NOSIGNAL  // Python ignores SIGPIPE anyway
#define MSG_NOSIGNAL 0
#endif

ssize_t send_one(const Send& it) noexcept {
    const ssize_t taken = ::send(it.descriptor, it.data.data(), it.data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (taken >= 0) return taken;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -errno;
}

}  // namespace

void send_all(std::span<Send> sends) noexcept {
    std::atomic<size_t> next = 0;
    const auto work = [&]() noexcept {
        for (size_t at; (at = next.fetch_add(kSendsAtOnce, std::memory_order_relaxed)) < sends.size();)
            for (Send& it : sends.subspan(at, std::min(kSendsAtOnce, sends.size() - at))) it.taken = send_one(it);
    };
    std::array<std::thread, kThreadsMax - 1> others;
    size_t threads = std::min(sends.size() / kSendsPerThread, kThreadsMax);
    if (threads > 1)  // how many cores there are is read from a file, which takes longer than a send
        threads = std::min(threads, std::max<size_t>(std::thread::hardware_concurrency(), 1));
    try {
        for (size_t i = 1; i < threads; ++i) others[i - 1] = std::thread(work);
    } catch (const std::system_error&) {
        // No thread is to be had: those that run do it all.
    }
    work();
    for (std::thread& other : others)
        if (other.joinable()) other.join();
}

}  // namespace angara
