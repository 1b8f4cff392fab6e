// The kernel's own price: one thread, epoll, and a send for each line. A share is not looked at: its id is
// found, and that it is good is answered. usage: echo SECONDS_BETWEEN_BLOCKS, 0 for none. Prints its port.
//
// A new block is the same work with another previous hash, sent by a bare loop to everybody.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr size_t kReceiveBytes = 4096;
constexpr size_t kLineBytesMax = 8192;
constexpr int kEventsMax = 1024;
constexpr int kBranches = 12;

struct Miner {
    bool open = false, mines = false;
    std::string unfinished;
};

std::string job(unsigned block) {
    char previous[65];
    std::snprintf(previous, sizeof previous, "%064x", block + 1);
    std::string text = R"({"id":null,"method":"mining.notify","params":["1",")" + std::string(previous) + R"(",")" +
                       std::string(116, '0') + R"(",")" + std::string(200, '0') + R"(",[)";
    for (int i = 0; i < kBranches; ++i) text += (i ? ",\"" : "\"") + std::string(64, '1') + '"';
    return text + R"(],"20000000","1d00ffff","6553f100",true]})" + "\n";
}

std::string_view id_of(std::string_view line) {
    const size_t key = line.find("\"id\":");
    if (key == std::string_view::npos) return "null";
    const size_t begin = line.find_first_not_of(' ', key + 5);
    return line.substr(begin, line.find_first_of(",}", begin) - begin);
}

std::string answer(std::string_view line, Miner& miner, unsigned block) {
    const auto is = [&](std::string_view method) { return line.find(method) != std::string_view::npos; };
    const std::string head = "{\"id\":" + std::string(id_of(line)) + ",\"result\":";
    const std::string tail = ",\"error\":null}\n";
    if (is("mining.submit")) return head + "true" + tail;
    if (is("mining.subscribe")) return head + R"([[["mining.notify","1"]],"abcd0000",8])" + tail;
    if (is("mining.configure")) return head + R"({"version-rolling":true,"version-rolling.mask":"1fffe000"})" + tail;
    if (!is("mining.authorize")) return head + "true" + tail;
    miner.mines = true;
    return head + "true" + tail + R"({"id":null,"method":"mining.set_difficulty","params":[2.3283064365386963e-10]})" +
           "\n" + job(block);
}

class Server {
  public:
    explicit Server(double block_s) : block_s_(block_s), epoll_(epoll_create1(0)) {
        const rlimit all = [] {
            rlimit limit;
            getrlimit(RLIMIT_NOFILE, &limit);
            return rlimit{limit.rlim_max, limit.rlim_max};
        }();
        setrlimit(RLIMIT_NOFILE, &all);
        listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        auto* const any = reinterpret_cast<sockaddr*>(&address);
        if (bind(listener_, any, size) != 0 || listen(listener_, 4096) != 0) std::abort();
        getsockname(listener_, any, &size);
        std::printf("%d\n", ntohs(address.sin_port));
        std::fflush(stdout);
        watch(listener_);
    }

    void run() {
        std::array<epoll_event, kEventsMax> events;
        auto next = Clock::now() + between();
        for (;;) {
            const int count = epoll_wait(epoll_, events.data(), kEventsMax, block_s_ > 0 ? 10 : -1);
            for (int i = 0; i < count; ++i) {
                const int descriptor = events[static_cast<size_t>(i)].data.fd;
                descriptor == listener_ ? accept_all() : read(descriptor);
            }
            if (block_s_ <= 0 || Clock::now() < next) continue;
            next = Clock::now() + between();
            new_block();
        }
    }

  private:
    using Clock = std::chrono::steady_clock;
    Clock::duration between() const {
        return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(block_s_));
    }

    void watch(int descriptor) {
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.fd = descriptor;
        epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event);
    }

    void accept_all() {
        for (int it; (it = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;) {
            const int on = 1;
            setsockopt(it, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            if (miners_.size() <= static_cast<size_t>(it)) miners_.resize(static_cast<size_t>(it) + 1);
            miners_[static_cast<size_t>(it)] = Miner{true, false, {}};
            watch(it);
        }
    }

    void read(int descriptor) {
        Miner& miner = miners_[static_cast<size_t>(descriptor)];
        char buffer[kReceiveBytes];
        const ssize_t size = recv(descriptor, buffer, sizeof buffer, 0);
        if (size <= 0 || miner.unfinished.size() > kLineBytesMax) {
            miner = Miner{};
            close(descriptor);
            return;
        }
        std::string_view rest(buffer, static_cast<size_t>(size));
        for (size_t end; (end = rest.find('\n')) != std::string_view::npos; rest.remove_prefix(end + 1)) {
            miner.unfinished += rest.substr(0, end);
            const std::string said = answer(miner.unfinished, miner, blocks_);
            miner.unfinished.clear();
            (void)!send(descriptor, said.data(), said.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        }
        miner.unfinished += rest;
    }

    void new_block() {
        const std::string text = job(++blocks_);
        for (size_t at = 0; at < miners_.size(); ++at)
            if (miners_[at].mines)
                (void)!send(static_cast<int>(at), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    }

    double block_s_;
    int epoll_, listener_ = -1;
    unsigned blocks_ = 0;
    std::vector<Miner> miners_;  // by descriptor
};

}  // namespace

int main(int argc, char** argv) { Server(argc > 1 ? std::atof(argv[1]) : 0).run(); }
