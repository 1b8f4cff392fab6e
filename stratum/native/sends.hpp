// Bytes for many sockets at once: one system call each, and nothing of Python in between. Knows nothing of
// what is said, or to whom.
#pragma once
#include <sys/types.h>

#include <span>
#include <string_view>

namespace angara {

struct Send {
    int descriptor;
    std::string_view data;
    ssize_t taken = 0;  // bytes that the socket took, or -errno where it is broken
};

// Never waits. No two of them may be for one socket: many are shared out among threads.
void send_all(std::span<Send> sends) noexcept;

}  // namespace angara
