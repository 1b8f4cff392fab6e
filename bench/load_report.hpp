// What the load generator measures, and the JSON object it prints: counters of the measuring window,
// a logarithmic histogram of latencies, and how long each job took from the first session to the last.
// Knows nothing of sockets or the protocol. Times are nanoseconds of the monotonic clock.
#pragma once
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

namespace load {

// 64 buckets for each power of two: percentiles are exact to 1.6 %.
class Histogram {
  public:
    void add(uint64_t ns) {
        ++buckets_[index_of(ns)];
        ++count_;
        max_ns_ = std::max(max_ns_, ns);
    }

    double percentile_ms(double share) const {
        const auto rank = static_cast<uint64_t>(share * static_cast<double>(count_));
        uint64_t seen = 0;
        for (size_t i = 0; i < buckets_.size(); ++i) {
            seen += buckets_[i];
            if (seen > rank) return static_cast<double>(std::min(upper_ns(i), max_ns_)) / 1e6;
        }
        return max_ms();
    }

    double max_ms() const { return static_cast<double>(max_ns_) / 1e6; }

    void print(FILE* out, const char* name) const {
        std::fprintf(out,
                     "\"%s\":{\"count\":%llu,\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"p999\":%.3f,"
                     "\"max\":%.3f}",
                     name, static_cast<unsigned long long>(count_), percentile_ms(0.5), percentile_ms(0.9),
                     percentile_ms(0.99), percentile_ms(0.999), max_ms());
    }

  private:
    static constexpr size_t kSub = 64;
    static size_t index_of(uint64_t ns) {
        if (ns < kSub) return static_cast<size_t>(ns);
        const auto shift = static_cast<size_t>(std::bit_width(ns)) - 7;
        return (shift + 1) * kSub + static_cast<size_t>(ns >> shift) - kSub;
    }
    static uint64_t upper_ns(size_t index) {
        if (index < kSub) return index;
        return ((kSub + index % kSub + 1) << (index / kSub - 1)) - 1;
    }

    std::array<uint64_t, 59 * kSub> buckets_{};
    uint64_t count_ = 0, max_ns_ = 0;
};

// One job id, and when the sessions that were already mining received it.
struct Job {
    std::string id, ntime;
    bool clean = false;
    bool measured = false;  // first received in the measuring window
    uint32_t reached = 0;
    uint64_t first_ns = 0, last_ns = 0;

    double last_ms() const { return static_cast<double>(last_ns - first_ns) / 1e6; }
};

struct Report {
    static constexpr size_t kJobsPrinted = 1000;  // more would drown the reader; all of them are summed up

    uint32_t sessions = 0, live = 0;
    double connect_s = 0, seconds = 0;
    uint64_t accepted = 0, unanswered = 0, skipped = 0, lag_max_ns = 0;
    uint64_t notifies = 0, notify_bytes = 0;
    uint64_t disconnects = 0, connect_failures = 0, bad_lines = 0, stray_replies = 0, reconnect_requests = 0;
    std::map<int, uint64_t> rejected;  // by error code; 0: rejected without one
    Histogram ack, handshake;
    std::string difficulty;  // as last received
    rusage cpu_from{}, cpu_to{};

    void print(FILE* out, const std::vector<Job>& jobs) const {
        std::fprintf(out, "{\"sessions\":%u,\"connect_s\":%.3f,", sessions, connect_s);
        handshake.print(out, "handshake_ms");
        std::fprintf(out, ",\"seconds\":%.3f,\"accepted\":%llu,\"accepted_per_s\":%.1f,\"rejected\":{", seconds,
                     number(accepted), seconds > 0 ? static_cast<double>(accepted) / seconds : 0.0);
        const char* comma = "";
        for (const auto& [code, count] : rejected) {
            std::fprintf(out, "%s\"%d\":%llu", comma, code, number(count));
            comma = ",";
        }
        std::fprintf(out, "},\"unanswered\":%llu,\"skipped\":%llu,\"lag_max_ms\":%.3f,", number(unanswered),
                     number(skipped), static_cast<double>(lag_max_ns) / 1e6);
        ack.print(out, "ack_ms");
        std::fprintf(out, ",\"difficulty\":%s,\"notifies\":%llu,\"notify_bytes\":%llu,",
                     difficulty.empty() ? "null" : difficulty.c_str(), number(notifies), number(notify_bytes));
        print_jobs(out, jobs);
        std::fprintf(out,
                     ",\"errors\":{\"disconnects\":%llu,\"connect_failures\":%llu,\"bad_lines\":%llu,"
                     "\"stray_replies\":%llu,\"reconnect_requests\":%llu},",
                     number(disconnects), number(connect_failures), number(bad_lines), number(stray_replies),
                     number(reconnect_requests));
        std::fprintf(out, "\"client_cpu\":{\"user_s\":%.3f,\"system_s\":%.3f}}\n",
                     seconds_of(cpu_to.ru_utime) - seconds_of(cpu_from.ru_utime),
                     seconds_of(cpu_to.ru_stime) - seconds_of(cpu_from.ru_stime));
    }

  private:
    static unsigned long long number(uint64_t value) { return value; }
    static double seconds_of(const timeval& time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    }

    // Jobs that have not reached every live session by the end are listed, but not summed up.
    void print_jobs(FILE* out, const std::vector<Job>& jobs) const {
        std::vector<double> all;
        std::vector<double> clean;
        size_t printed = 0;
        std::fprintf(out, "\"jobs\":[");
        for (const Job& job : jobs) {
            if (!job.measured) continue;
            if (job.reached >= live) all.push_back(job.last_ms());
            if (job.reached >= live && job.clean) clean.push_back(job.last_ms());
            if (printed == kJobsPrinted) continue;
            std::fprintf(out, "%s{\"clean\":%s,\"last_ms\":%.3f,\"sessions\":%u}", printed++ ? "," : "",
                         job.clean ? "true" : "false", job.last_ms(), job.reached);
        }
        std::fprintf(out, "],");
        print_spread(out, "jobs_all", all);
        std::fprintf(out, ",");
        print_spread(out, "jobs_clean", clean);
    }

    static void print_spread(FILE* out, const char* name, std::vector<double>& last_ms) {
        std::sort(last_ms.begin(), last_ms.end());
        std::fprintf(out, "\"%s\":{\"count\":%zu", name, last_ms.size());
        if (!last_ms.empty()) {
            std::fprintf(out, ",\"median_ms\":%.3f,\"max_ms\":%.3f", last_ms[last_ms.size() / 2], last_ms.back());
        }
        std::fprintf(out, "}");
    }
};

}  // namespace load
