// A stratum load generator that costs little next to the pool it loads: every nonce is a share at the
// pool's benchmark difficulty of 2^-32, so it never hashes.
//
//   load HOST PORT --sessions N --seconds S [--warmup W] [--rate SHARES_PER_S] [--from-ips K]
//        [--tenant NAME] [--hold] [--reconnect-storm]
//
// Closed loop (default): every session has one share in flight. Open loop (--rate): shares become due
// by the clock, session after session. --hold only sits and receives jobs. --reconnect-storm connects all
// sessions at once and, as miners do, again when that failed. Says "ready" on stderr when all sessions
// mine, and prints one JSON object on stdout at the end. Build: g++ -O2 -std=c++20 -o load load.cpp
#include <charconv>
#include <cstdlib>

#include "load_client.hpp"

namespace load {

constexpr uint32_t kReservedFiles = 16;  // stdio, epoll, timer

[[noreturn]] void usage(const std::string& problem) {
    std::fprintf(stderr,
                 "load: %s\n"
                 "usage: load HOST PORT --sessions N --seconds S [--warmup W] [--rate SHARES_PER_S]\n"
                 "            [--from-ips K] [--tenant NAME] [--hold] [--reconnect-storm]\n",
                 problem.c_str());
    std::exit(2);
}

double number_option(const std::string& name, const char* text, double least) {
    double value = 0;
    const char* end = text == nullptr ? nullptr : text + std::strlen(text);
    const bool whole = text != nullptr && *text != '\0' && std::from_chars(text, end, value).ptr == end;
    if (!whole || !(value >= least && value <= 1e9)) {
        usage(name + " wants a number, and a sensible one");
    }
    return value;
}

Options options_from(int argc, char** argv) {
    Options options;
    std::vector<std::string> places;
    for (int i = 1; i < argc; ++i) {
        const std::string name = argv[i];
        const auto number = [&](double least) { return number_option(name, ++i < argc ? argv[i] : nullptr, least); };
        if (name == "--sessions")
            options.sessions = static_cast<uint32_t>(number(1));
        else if (name == "--seconds")
            options.seconds = number(0);
        else if (name == "--warmup")
            options.warmup = number(0);
        else if (name == "--rate")
            options.rate = number(1e-3);
        else if (name == "--from-ips")
            options.from_ips = static_cast<uint32_t>(number(1));
        else if (name == "--tenant" && i + 1 < argc)
            options.tenant = argv[++i];
        else if (name == "--hold")
            options.hold = true;
        else if (name == "--reconnect-storm")
            options.storm = true;
        else if (name.starts_with("--"))
            usage("unknown option, or no value: " + name);
        else
            places.push_back(name);
    }
    if (places.size() != 2 || options.sessions == 0) usage("HOST, PORT and --sessions are needed");
    options.host = places[0];
    options.port = places[1];
    if (options.from_ips == 0) options.from_ips = 1 + options.sessions / 10'000;
    return options;
}

void raise_file_limit(uint32_t sessions) {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < sessions + kReservedFiles) {
        throw std::runtime_error("the limit of open files is " + std::to_string(limit.rlim_max) + ", too low for " +
                                 std::to_string(sessions) + " sessions");
    }
}

}  // namespace load

int main(int argc, char** argv) {
    const load::Options options = load::options_from(argc, argv);
    try {
        load::raise_file_limit(options.sessions);
        load::Client(options).run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "load: %s\n", error.what());
        return 1;
    }
}
