// stratum._engine: the engine for Python. The only native file that knows Python.
//
// Sessions are known to Python by the object that owns them: validate() hands owners back, so that a
// reply needs no look-up. A call during another one is refused: from a second thread, since the GIL is
// released while hashing, and from a finalizer that the garbage collector runs while validate() builds lists.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <cstring>

#include "engine.hpp"
#include "sends.hpp"
#include "wires.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using angara::Found;
using angara::Hash;

// Fewer shares than this are hashed before another thread would have woken up and taken the GIL.
constexpr size_t kReleaseGilFrom = 32;

std::string_view view(const nb::bytes& bytes) { return {bytes.c_str(), bytes.size()}; }

Hash hash_from(const nb::bytes& bytes, const char* what) {
    if (bytes.size() != 32) throw nb::value_error(what);
    Hash hash;
    std::memcpy(hash.data(), bytes.c_str(), hash.size());
    return hash;
}

template <typename T>
nb::bytes bytes_of(const T* data, size_t size) {
    return nb::bytes(reinterpret_cast<const char*>(data), size);
}

class LineTooLong : public std::runtime_error {
  public:
    LineTooLong() : std::runtime_error("a line is longer than the limit") {}
};

class PyEngine {
  public:
    PyEngine(size_t line_bytes_max, std::optional<std::string> backend, size_t duplicates_max, bool keep_credits,
             std::optional<int> keep_log2)
        : engine_(line_bytes_max, backend_named(backend), duplicates_max, keep_credits, keep_log2) {}

    void add_channel(uint32_t channel) {
        const auto guard = lock();
        engine_.add_channel(channel);
    }
    void remove_channel(uint32_t channel) {
        const auto guard = lock();
        engine_.remove_channel(channel);
    }
    nb::tuple add_job(uint32_t channel, uint64_t seq, uint32_t rate, const nb::bytes& coinbase1,
                      const nb::bytes& coinbase2, size_t extranonce_size, const nb::bytes& branch,
                      const nb::bytes& prevhash_internal, uint32_t version, uint32_t nbits, uint32_t ntime_min,
                      uint32_t ntime_max, const nb::bytes& network_target_le,
                      const std::optional<nb::bytes>& forward_target_le, bool clean, std::optional<int> start_log2) {
        const auto guard = lock();
        angara::Job job;
        job.seq = seq;
        job.channel = channel;
        job.rate = rate;
        job.version = version;
        job.nbits = nbits;
        job.ntime_min = ntime_min;
        job.ntime_max = ntime_max;
        job.prevhash = hash_from(prevhash_internal, "prevhash must be 32 bytes");
        job.network_target = angara::number_from(hash_from(network_target_le, "network target must be 32 bytes"));
        if (forward_target_le)
            job.forward_target = angara::number_from(hash_from(*forward_target_le, "forward target must be 32 bytes"));
        const auto branch_view = view(branch);
        job.branch.assign(branch_view.begin(), branch_view.end());
        if (start_log2) {
            if (*start_log2 < angara::kDifficultyLog2Min || *start_log2 > angara::kDifficultyLog2Max)
                throw nb::value_error("difficulty out of range");
            job.start_log2 = static_cast<int8_t>(*start_log2);
        }
        const auto space = engine_.add_job(std::move(job), view(coinbase1), view(coinbase2), extranonce_size, clean);
        return nb::make_tuple(space.seq, difficulty(space.start_log2));
    }
    void add_alias(uint32_t channel, uint64_t seq, uint64_t of_seq) {
        const auto guard = lock();
        engine_.add_alias(channel, seq, of_seq);
    }
    void drop_jobs_before(uint32_t channel, uint64_t seq) {
        const auto guard = lock();
        engine_.drop_jobs_before(channel, seq);
    }
    void undelivered_before(uint32_t channel, uint64_t seq) {
        const auto guard = lock();
        engine_.undelivered_before(channel, seq);
    }
    nb::list pins(uint32_t session) {
        const auto guard = lock();
        nb::list list;
        for (const auto& pin : engine_.pins(session))
            list.append(nb::make_tuple(pin.from_seq, static_cast<int>(pin.difficulty_log2)));
        return list;
    }
    std::optional<int> judged_at(uint32_t session, uint32_t channel, uint64_t seq) {
        const auto guard = lock();
        return difficulty(engine_.judged_at(session, channel, seq));
    }
    uint32_t open(nb::object owner) {
        const auto guard = lock();
        const uint32_t session = engine_.open_session();
        if (owners.size() <= session) owners.resize(session + 1);
        owners[session] = std::move(owner);
        return session;
    }
    void close(uint32_t session) {
        nb::object owner;  // released after the lock: its destructor may call back
        const auto guard = lock();
        engine_.close_session(session);
        wires_.remove(session);
        std::swap(owner, owners[session]);
    }
    void subscribe(uint32_t session, uint32_t channel, const nb::bytes& extranonce1, size_t extranonce2_size,
                   uint64_t from_seq) {
        const auto guard = lock();
        engine_.subscribe(session, channel, view(extranonce1), extranonce2_size, from_seq);
    }
    void authorise(uint32_t session, const nb::bytes& name, uint32_t worker) {
        const auto guard = lock();
        engine_.authorise(session, view(name), worker);
    }
    bool set_version_mask(uint32_t session, uint32_t mask) {
        const auto guard = lock();
        return engine_.set_version_mask(session, mask);
    }
    void pin_difficulty(uint32_t session, int difficulty_log2, uint64_t from_seq) {
        const auto guard = lock();
        engine_.pin_difficulty(session, difficulty_log2, from_seq);
    }
    void set_retarget_after(uint32_t session, uint32_t accepted_shares) {
        const auto guard = lock();
        engine_.set_retarget_after(session, accepted_shares);
    }
    std::optional<nb::bytes> feed(uint32_t session, nb::handle data) {
        Py_buffer buffer;
        if (PyObject_GetBuffer(data.ptr(), &buffer, PyBUF_SIMPLE) != 0) throw nb::python_error();
        struct Release {
            Py_buffer* buffer;
            ~Release() { PyBuffer_Release(buffer); }
        } release{&buffer};
        const auto guard = lock();
        std::string_view line;
        const std::string_view bytes(static_cast<const char*>(buffer.buf), static_cast<size_t>(buffer.len));
        switch (engine_.feed(session, bytes, line)) {
            case angara::Fed::kDone: return std::nullopt;
            case angara::Fed::kLine: return nb::bytes(line.data(), line.size());
            case angara::Fed::kLineTooLong: break;
        }
        throw LineTooLong();
    }
    void submit(uint32_t session, const nb::bytes& id, const std::vector<nb::bytes>& params) {
        const auto guard = lock();
        if (params.size() < 5 || params.size() > angara::Submit::kParamsMax)
            throw nb::value_error("mining.submit has 5 or 6 parameters");
        angara::Submit submit;
        submit.id = view(id);
        for (const nb::bytes& param : params) submit.params[submit.count++].text = view(param);
        engine_.submit(session, submit);
    }
    void set_wire(uint32_t session, int descriptor, bool reads, bool writes) {
        const auto guard = lock();
        if (session >= owners.size() || !owners[session].is_valid()) throw std::out_of_range("no such session");
        wires_.set(session, descriptor, reads, writes);
    }
    nb::tuple read(int epoll, size_t events_max) {
        const auto guard = lock();
        const angara::Wires::Round* round;
        {
            nb::gil_scoped_release released;
            round = &wires_.read(engine_, epoll, events_max);
        }
        nb::list ready, lines, ends;
        for (const auto& it : round->ready) ready.append(nb::make_tuple(it.descriptor, it.events));
        for (const auto& it : round->lines)
            lines.append(nb::make_tuple(owners[it.session], bytes_of(it.text.data(), it.text.size())));
        for (const auto& it : round->ends) ends.append(nb::make_tuple(owners[it.session], it.reason, it.error));
        return nb::make_tuple(ready, lines, ends);
    }
    nb::tuple kept() {
        const auto guard = lock();
        const auto [replies, size] = wires_.kept();
        return nb::make_tuple(replies, size);
    }
    void close_batch() {
        const auto guard = lock();
        wires_.close_batch();
    }
    nb::tuple send_batch(size_t replies_max) {
        const auto guard = lock();
        std::vector<angara::Wires::Rest> rests;
        bool more;
        {
            nb::gil_scoped_release released;
            more = wires_.send(replies_max, rests);
        }
        nb::list list;
        for (const auto& it : rests)
            list.append(nb::make_tuple(owners[it.session], bytes_of(it.data.data(), it.data.size())));
        return nb::make_tuple(more, list);
    }
    nb::tuple validate() {
        const auto guard = lock();
        if (engine_.queued() < kReleaseGilFrom) {
            engine_.validate(batch_);
        } else {
            nb::gil_scoped_release released;
            engine_.validate(batch_);
        }
        nb::list replies, found, retarget;
        for (const angara::Reply& reply : batch_.replies) {
            const nb::object& owner = owners[reply.session];
            if (!owner.is_valid()) continue;  // it left: nobody to answer
            const std::string_view said(batch_.bytes.data() + reply.begin, reply.end - reply.begin);
            if (wires_.writes(reply.session))
                wires_.keep(reply.session, said);
            else
                replies.append(nb::make_tuple(owner, bytes_of(said.data(), said.size())));
        }
        for (const Found& it : batch_.found) found.append(it);
        for (const uint32_t session : batch_.retarget)
            if (owners[session].is_valid()) retarget.append(owners[session]);
        for (size_t i = 0; i < totals_.size(); ++i) totals_[i] += batch_.verdicts[i];
        return nb::make_tuple(replies, found, retarget);
    }
    nb::bytes collect_tallies() {
        const auto guard = lock();
        const std::vector<angara::Tally> tallies = engine_.collect_tallies();
        return bytes_of(tallies.data(), tallies.size() * sizeof(angara::Tally));
    }
    nb::bytes collect_uncharged() {
        const auto guard = lock();
        const std::vector<angara::Tally> tallies = engine_.collect_uncharged();
        return bytes_of(tallies.data(), tallies.size() * sizeof(angara::Tally));
    }
    nb::list collect_credits() {
        const auto guard = lock();
        nb::list list;
        for (const angara::Credits& credits : engine_.collect_credits())
            list.append(
                nb::make_tuple(bytes_of(credits.prevhash.data(), credits.prevhash.size()),
                               bytes_of(credits.shares.data(), credits.shares.size() * sizeof(angara::Credit))));
        return list;
    }
    nb::bytes collect_kept() {
        const auto guard = lock();
        const std::vector<angara::Kept> kept = engine_.collect_kept();
        return bytes_of(kept.data(), kept.size() * sizeof(angara::Kept));
    }
    void remember(const nb::bytes& prevhash_internal, const nb::bytes& keys) {
        const auto guard = lock();
        engine_.remember(hash_from(prevhash_internal, "prevhash must be 32 bytes"), view(keys));
    }
    nb::tuple counters(uint32_t session) {
        const auto guard = lock();
        const angara::Counters& counters = engine_.counters(session);
        return nb::make_tuple(counters.accepted, counters.rejected, counters.at_difficulty);
    }
    uint32_t unearned(uint32_t session) {
        const auto guard = lock();
        return engine_.counters(session).unearned;
    }
    uint32_t rolled(uint32_t session) {
        const auto guard = lock();
        return engine_.counters(session).rolled;
    }
    void rest(uint32_t session, double until_s) {
        const auto guard = lock();
        engine_.rest(session, until_s);
    }
    nb::list awake(uint32_t remainder, uint32_t divisor, double now_s) {
        const auto guard = lock();
        nb::list list;
        for (const uint32_t session : engine_.awake(remainder, divisor, now_s))
            if (owners[session].is_valid()) list.append(owners[session]);
        return list;
    }
    double heard_at(uint32_t session, double now_s) {
        const auto guard = lock();
        return engine_.heard_at(session, now_s);
    }
    nb::list totals() {
        const auto guard = lock();
        nb::list list;
        for (const uint64_t total : totals_) list.append(total);
        return list;
    }
    size_t queued() {
        const auto guard = lock();
        return engine_.queued();
    }
    bool remembers(const nb::bytes& prevhash_internal) {
        const auto guard = lock();
        return engine_.remembers(hash_from(prevhash_internal, "prevhash must be 32 bytes"));
    }
    size_t duplicates(uint32_t channel) {
        const auto guard = lock();
        return engine_.duplicates(channel);
    }

    std::vector<nb::object> owners;  // by session; none where that is closed

  private:
    static const angara::sha256::Backend& backend_named(const std::optional<std::string>& name) {
        if (!name) return angara::sha256::chosen();
        const auto* backend = angara::sha256::by_name(*name);
        if (!backend) throw nb::value_error("no such hash backend on this CPU");
        return *backend;
    }
    // Not a mutex: what is refused may come from the thread that holds it.
    class Guard {
      public:
        explicit Guard(std::atomic_flag& busy) : busy_(busy) {
            if (busy_.test_and_set(std::memory_order_acquire)) throw std::runtime_error("the engine is in use");
        }
        ~Guard() { busy_.clear(std::memory_order_release); }
        Guard(const Guard&) = delete;
        Guard& operator=(const Guard&) = delete;

      private:
        std::atomic_flag& busy_;
    };
    Guard lock() { return Guard(busy_); }
    static std::optional<int> difficulty(int8_t log2) {
        if (log2 < angara::kDifficultyLog2Min) return std::nullopt;
        return log2;
    }

    std::atomic_flag busy_;
    angara::Engine engine_;
    angara::Batch batch_;
    angara::Wires wires_;
    std::array<uint64_t, angara::kVerdicts> totals_{};
};

int engine_traverse(PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    if (!nb::inst_ready(self)) return 0;
    for (const nb::object& owner : nb::inst_ptr<PyEngine>(self)->owners) Py_VISIT(owner.ptr());
    return 0;
}

int engine_clear(PyObject* self) {
    if (!nb::inst_ready(self)) return 0;
    auto& owners = nb::inst_ptr<PyEngine>(self)->owners;
    std::vector<nb::object> nobody(owners.size());  // an owner's last words may be close()
    owners.swap(nobody);
    return 0;
}

PyType_Slot engine_slots[] = {{Py_tp_traverse, reinterpret_cast<void*>(engine_traverse)},
                              {Py_tp_clear, reinterpret_cast<void*>(engine_clear)},
                              {0, nullptr}};

// Of those that did not take everything: (its place in the list, bytes taken, or -errno).
nb::list send_all(const std::vector<int>& descriptors, const std::vector<nb::bytes>& data) {
    if (descriptors.size() != data.size()) throw nb::value_error("each descriptor has its bytes");
    std::vector<angara::Send> sends(data.size());
    for (size_t i = 0; i < data.size(); ++i) sends[i] = {descriptors[i], view(data[i])};
    {
        nb::gil_scoped_release released;
        angara::send_all(sends);
    }
    nb::list rest;
    for (size_t i = 0; i < sends.size(); ++i)
        if (sends[i].taken != std::ssize(sends[i].data)) rest.append(nb::make_tuple(i, sends[i].taken));
    return rest;
}

nb::bytes sha256d(const std::string& backend_name, const nb::bytes& messages, size_t size) {
    const auto* backend = angara::sha256::by_name(backend_name);
    if (!backend) throw nb::value_error("no such hash backend on this CPU");
    if (size == 0 || messages.size() % size != 0) throw nb::value_error("not a whole number of messages");
    const size_t n = messages.size() / size, blocks = (size + 9 + 63) / 64;
    std::vector<uint8_t> out(32 * n);
    const auto* in = static_cast<const uint8_t*>(messages.data());
    if (size == 64) {
        backend->double_64(out.data(), in, n);
        return bytes_of(out.data(), out.size());
    }
    std::vector<uint8_t> padded(64 * blocks * n);
    for (size_t i = 0; i < n; ++i) {
        uint8_t* message = padded.data() + 64 * blocks * i;
        std::memcpy(message, in + size * i, size);
        message[size] = 0x80;
        for (size_t k = 0; k < 8; ++k) message[64 * blocks - 1 - k] = static_cast<uint8_t>(uint64_t{size} * 8 >> 8 * k);
    }
    backend->double_blocks(out.data(), angara::sha256::kInitialState, padded.data(), blocks, n);
    return bytes_of(out.data(), out.size());
}

}  // namespace

NB_MODULE(_engine, m) {
    nb::exception<LineTooLong>(m, "LineTooLong", PyExc_ValueError);
    m.attr("backend") = angara::sha256::chosen().name;
    nb::list backends;
    for (const auto* backend : angara::sha256::available()) backends.append(backend->name);
    m.attr("backends") = nb::tuple(backends);
    m.attr("WORKERS_PER_SESSION_MAX") = angara::kWorkersPerSessionMax;
    m.attr("WORKER_NAME_BYTES_MAX") = angara::kWorkerNameMax;
    m.attr("JOBS_PER_CHANNEL_MAX") = angara::kJobsPerChannelMax;
    m.attr("PINS_MAX") = angara::kPinsMax;
    m.attr("REJECTS_PER_ACCEPTED") = angara::kRejectsPerAccepted;
    m.attr("NOT_HELD") = static_cast<int>(angara::kNotHeld);
    m.attr("FORGOTTEN") = static_cast<int>(angara::kForgotten);
    m.def("send_all", &send_all, "descriptors"_a, "data"_a);
    m.def("sha256d", &sha256d, "backend"_a, "messages"_a, "size"_a);

    nb::class_<Found>(m, "Found")
        .def_ro("channel", &Found::channel)
        .def_ro("seq", &Found::seq)
        .def_ro("worker", &Found::worker)
        .def_prop_ro("extranonce1",
                     [](const Found& it) { return bytes_of(it.extranonce1.data(), it.extranonce1_size); })
        .def_prop_ro("extranonce2",
                     [](const Found& it) { return bytes_of(it.extranonce2.data(), it.extranonce2_size); })
        .def_ro("ntime", &Found::ntime)
        .def_ro("nonce", &Found::nonce)
        .def_ro("version", &Found::version)
        .def_prop_ro("hash_internal", [](const Found& it) { return bytes_of(it.hash.data(), it.hash.size()); })
        .def_prop_ro("difficulty_log2", [](const Found& it) { return int{it.difficulty_log2}; })
        .def_ro("tallied", &Found::tallied);

    nb::class_<PyEngine>(m, "Engine", nb::type_slots(engine_slots))
        .def(nb::init<size_t, std::optional<std::string>, size_t, bool, std::optional<int>>(), nb::kw_only(),
             "line_bytes_max"_a = 8192, "backend"_a = nb::none(),
             "duplicates_max"_a = angara::DuplicateFilter::kEntriesMax, "keep_credits"_a = false,
             "keep_log2"_a = nb::none())
        .def("add_channel", &PyEngine::add_channel, "channel"_a)
        .def("remove_channel", &PyEngine::remove_channel, "channel"_a)
        .def("add_job", &PyEngine::add_job, nb::kw_only(), "channel"_a, "seq"_a, "rate"_a, "coinbase1"_a, "coinbase2"_a,
             "extranonce_size"_a, "branch"_a, "prevhash_internal"_a, "version"_a, "nbits"_a, "ntime_min"_a,
             "ntime_max"_a, "network_target_le"_a, "forward_target_le"_a = nb::none(), "clean"_a = false,
             "start_log2"_a = nb::none())
        .def("add_alias", &PyEngine::add_alias, "channel"_a, "seq"_a, "of_seq"_a)
        .def("drop_jobs_before", &PyEngine::drop_jobs_before, "channel"_a, "seq"_a)
        .def("undelivered_before", &PyEngine::undelivered_before, "channel"_a, "seq"_a)
        .def("pins", &PyEngine::pins, "session"_a)
        .def("judged_at", &PyEngine::judged_at, "session"_a, "channel"_a, "seq"_a)
        .def("open", &PyEngine::open, "owner"_a)
        .def("close", &PyEngine::close, "session"_a)
        .def("subscribe", &PyEngine::subscribe, "session"_a, "channel"_a, "extranonce1"_a, "extranonce2_size"_a,
             "from_seq"_a = 0)
        .def("authorise", &PyEngine::authorise, "session"_a, "name"_a, "worker"_a)
        .def("set_version_mask", &PyEngine::set_version_mask, "session"_a, "mask"_a)
        .def("pin_difficulty", &PyEngine::pin_difficulty, "session"_a, "difficulty_log2"_a, "from_seq"_a)
        .def("set_retarget_after", &PyEngine::set_retarget_after, "session"_a, "accepted_shares"_a)
        .def("feed", &PyEngine::feed, "session"_a, "data"_a)
        .def("submit", &PyEngine::submit, "session"_a, "id"_a, "params"_a)
        .def("set_wire", &PyEngine::set_wire, "session"_a, "descriptor"_a, nb::kw_only(), "reads"_a, "writes"_a)
        .def("read", &PyEngine::read, "epoll"_a, "events_max"_a)
        .def("kept", &PyEngine::kept)
        .def("close_batch", &PyEngine::close_batch)
        .def("send_batch", &PyEngine::send_batch, "replies_max"_a)
        .def("validate", &PyEngine::validate)
        .def("collect_tallies", &PyEngine::collect_tallies)
        .def("collect_uncharged", &PyEngine::collect_uncharged)
        .def("collect_credits", &PyEngine::collect_credits)
        .def("collect_kept", &PyEngine::collect_kept)
        .def("remember", &PyEngine::remember, "prevhash_internal"_a, "keys"_a)
        .def("counters", &PyEngine::counters, "session"_a)
        .def("unearned", &PyEngine::unearned, "session"_a)
        .def("rolled", &PyEngine::rolled, "session"_a)
        .def("rest", &PyEngine::rest, "session"_a, "until_s"_a)
        .def("awake", &PyEngine::awake, "remainder"_a, "divisor"_a, "now_s"_a)
        .def("heard_at", &PyEngine::heard_at, "session"_a, "now_s"_a)
        .def("totals", &PyEngine::totals)
        .def("queued", &PyEngine::queued)
        .def("remembers", &PyEngine::remembers, "prevhash_internal"_a)
        .def("duplicates", &PyEngine::duplicates, "channel"_a);
}
