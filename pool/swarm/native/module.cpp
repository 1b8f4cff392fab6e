// pool.swarm._swarm: the simulated machines for Python. The only file here that knows Python.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "swarm.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using namespace angara::swarm;

constexpr std::array kKindNames = {"good", "late", "duplicate", "low difficulty", "unknown job", "wrong time"};
static_assert(kKindNames.size() == kKinds);

// A server's words need not be UTF-8.
nb::str words(const std::string& text) {
    return nb::steal<nb::str>(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace"));
}

template <typename T>
T attribute(nb::handle object, const char* name) {
    return nb::cast<T>(object.attr(name));
}

Profile profile_from(nb::handle given) {
    Profile profile;
    profile.name = attribute<std::string>(given, "name");
    profile.agent = attribute<std::string>(given, "agent");
    profile.mask = attribute<uint32_t>(given, "mask");
    profile.always_six = attribute<bool>(given, "always_six");
    profile.fixed_id = attribute<bool>(given, "fixed_id");
    profile.difficulty_at_once = attribute<bool>(given, "difficulty_at_once");
    profile.obeys_reconnect = attribute<bool>(given, "obeys_reconnect");
    const auto pong = attribute<std::string>(given, "pong");
    profile.pong = pong == "result" ? Pong::Result : pong == "request" ? Pong::Request : Pong::Silent;
    for (nb::handle it : given.attr("steps")) {
        const auto ask = attribute<std::string>(it, "ask");
        Step step;
        step.ask = ask == "configure"   ? Ask::Configure
                   : ask == "subscribe" ? Ask::Subscribe
                   : ask == "authorize" ? Ask::Authorize
                                        : Ask::Other;
        step.waits = attribute<bool>(it, "waits");
        step.text = attribute<std::string>(it, "text");
        profile.steps.push_back(step);
    }
    if (profile.steps.size() >= SubmitLine::kFirstId ||
        (profile.fixed_id && profile.steps.size() >= SubmitLine::kFixedId))
        throw nb::value_error("more requests than there are ids for");
    return profile;
}

using MachineRow = std::tuple<std::string, uint32_t, uint32_t, bool>;

nb::list list_of(const Histogram& histogram) {
    nb::list rows;
    for (const auto& [up_to_ns, count] : histogram.buckets()) rows.append(nb::make_tuple(up_to_ns, count));
    return rows;
}

nb::list list_of(const std::vector<Block>& blocks) {
    nb::list rows;
    for (const Block& block : blocks) rows.append(nb::make_tuple(block.last_ns - block.first_ns, block.reached));
    return rows;
}

nb::dict snapshot(const Swarm& swarm) {
    const Report& report = swarm.report();
    nb::dict verdicts, said, lost, told;
    for (size_t kind = 0; kind < kKinds; ++kind) {
        if (report.verdicts[kind].empty()) continue;
        nb::dict by_code;
        for (const auto& [code, count] : report.verdicts[kind]) by_code[words(code)] = count;
        verdicts[kKindNames[kind]] = by_code;
    }
    for (const auto& [code, text] : report.words) said[words(code)] = words(text);
    for (const auto& [reason, count] : report.lost) lost[words(reason)] = count;
    told["verdicts"] = verdicts;
    told["words"] = said;
    told["lost"] = lost;
    told["latency"] = list_of(report.latency);
    told["slow_latency"] = list_of(report.slow_latency);
    told["found_after"] = list_of(report.found_after);
    told["first_job"] = list_of(report.first_job);
    told["block_delays"] = list_of(report.blocks.delays);
    told["blocks"] = list_of(report.blocks.list);
    told["in_flight"] = swarm.in_flight();
    told["searching"] = swarm.searching();
    told["hashes_per_s"] = swarm.hashes_per_s();
    const auto [least, most] = swarm.difficulties();
    told["difficulty_least"] = least;
    told["difficulty_most"] = most;
    for (const auto& [name, count] : {std::pair{"due", report.due},
                                      {"submitted", report.submitted},
                                      {"busy", report.busy},
                                      {"too_dear", report.too_dear},
                                      {"unanswered", report.unanswered},
                                      {"hashes", report.hashes},
                                      {"connects", report.connects},
                                      {"notifies", report.notifies},
                                      {"notify_bytes", report.notify_bytes},
                                      {"bad_lines", report.bad_lines},
                                      {"stray_replies", report.stray_replies},
                                      {"pings", report.pings},
                                      {"reconnects_asked", report.reconnects_asked},
                                      {"reconnects_elsewhere", report.reconnects_elsewhere}})
        told[name] = count;
    return told;
}

}  // namespace

NB_MODULE(_swarm, module) {
    nb::class_<Swarm>(module, "Swarm")
        .def(
            "__init__",
            [](Swarm* self, const std::string& address, uint16_t port, nb::list profiles,
               const std::vector<MachineRow>& machines, double shares_per_s, double hashrate_hps, bool closed_loop,
               double hashing, double connects_per_s, double bad, double late, bool tls, uint64_t seed,
               const std::string& first_source) {
                Options options;
                options.address = address;
                options.port = port;
                for (nb::handle it : profiles) options.profiles.push_back(profile_from(it));
                for (const auto& [worker, profile, container, slow] : machines)
                    options.machines.push_back({worker, profile, container, slow});
                options.shares_per_s = shares_per_s;
                options.hashrate_hps = hashrate_hps;
                options.closed_loop = closed_loop;
                options.hashing = hashing;
                options.connects_per_s = connects_per_s;
                options.bad = bad;
                options.late = late;
                options.tls = tls;
                options.seed = seed;
                options.first_source = first_source;
                new (self) Swarm(std::move(options));
            },
            "address"_a, "port"_a, "profiles"_a, "machines"_a, nb::kw_only(), "shares_per_s"_a, "hashrate_hps"_a,
            "closed_loop"_a, "hashing"_a, "connects_per_s"_a, "bad"_a, "late"_a, "tls"_a, "seed"_a,
            "first_source"_a = "")
        .def("run", &Swarm::run, "seconds"_a, nb::call_guard<nb::gil_scoped_release>())
        .def("submitting", &Swarm::submitting, "on"_a)
        .def("restore", &Swarm::restore, "container"_a = nb::none())
        .def("cut", &Swarm::cut, "container"_a = nb::none())
        .def("pause", &Swarm::pause, "number"_a)
        .def("wake", &Swarm::wake, "number"_a, "after_s"_a)
        .def("measure", &Swarm::measure)
        .def("mining", &Swarm::mining, "container"_a = nb::none())
        .def("snapshot", &snapshot);
}
