// A server that is hostile, against machines of every kind: what it says is random, and half of it nearly right. No
// sockets: bytes into a machine, and whatever it does is watched by sanitizers. What must hold besides:
//
//     a line of ours is JSON's alphabet in one piece, ends with a newline, and is bounded
//     no more than kInFlightMax shares are under way, and a share is submitted only where it may be
//     memory for pieces of lines is given back
//
// Without libFuzzer (ANGARA_FUZZ_MAIN) it plays so many conversations from a seed: fuzz_machine COUNT [SEED].
#include <cstdio>
#include <cstdlib>

#include "machine.hpp"

using namespace angara::swarm;

namespace {

// What the input says, byte by byte; zeros behind its end.
class Choices {
  public:
    Choices(const uint8_t* data, size_t size) : data_(data), left_(size) {}
    bool empty() const { return left_ == 0; }
    uint8_t byte() {
        if (left_ == 0) return 0;
        --left_;
        return *data_++;
    }
    uint32_t below(uint32_t end) { return byte() % end; }
    std::string text(size_t most) {
        std::string text;
        for (size_t size = byte() % (most + 1); size > 0; --size) text += static_cast<char>(byte());
        return text;
    }
    std::string hex(size_t bytes) {
        std::string text;
        for (; bytes > 0; --bytes) text += hex_of(byte()).substr(6);
        return text;
    }

  private:
    const uint8_t* data_;
    size_t left_;
};

void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "does not hold: %s\n", what);
    std::abort();
}

Profile profile_of(Choices& choices) {
    Profile profile;
    const uint8_t bits = choices.byte();
    profile.agent = "agent/1";
    profile.mask = 0x1fffe000;
    profile.always_six = bits & 1;
    profile.fixed_id = bits & 2;
    profile.difficulty_at_once = bits & 4;
    profile.obeys_reconnect = bits & 8;
    profile.pong = static_cast<Pong>(choices.below(3));
    const bool waits = bits & 16;
    profile.steps = {{Ask::Subscribe, waits, R"("method":"mining.subscribe","params":[])"},
                     {Ask::Authorize, waits, R"("method":"mining.authorize","params":["{worker}","x"])"},
                     {Ask::Configure, false, R"("method":"mining.configure","params":[])"}};
    return profile;
}

std::string notify(Choices& choices) {
    const bool right = choices.below(4) != 0;
    std::string line = R"({"id":null,"method":"mining.notify","params":[")" + choices.hex(1) + "\",\"";
    line += choices.hex(right ? 32 : choices.below(40)) + "\",\"" + choices.hex(choices.below(80)) + "\",\"";
    line += choices.hex(choices.below(80)) + "\",[";
    for (uint32_t nodes = choices.below(right ? 14 : 40); nodes > 0; --nodes) {
        line += "\"" + choices.hex(right ? 32 : choices.below(34)) + (nodes > 1 ? "\"," : "\"");
    }
    line += R"(],"20000000","1d00ffff",")" + choices.hex(4) + "\"";
    if (right) line += choices.below(2) ? ",true" : ",false";
    return line + "]}";
}

std::string line_of(Choices& choices) {
    const std::string id = std::to_string(choices.below(2) ? choices.below(6) : 1020 + choices.below(40));
    switch (choices.below(12)) {
        case 0:
            return R"({"id":1,"result":[[],")" + choices.hex(choices.below(40)) + "\"," +
                   std::to_string(choices.below(10)) + R"(],"error":null})";
        case 1: return R"({"id":2,"result":true,"error":null})";
        case 2: return R"({"id":3,"result":{"version-rolling":true,"version-rolling.mask":")" + choices.hex(4) + "\"}}";
        case 3: return notify(choices);
        case 4:
            return R"({"method":"mining.set_difficulty","params":[)" +
                   (choices.below(3) ? "0.0000001" : choices.text(12)) + "]}";
        case 5: return R"({"method":"mining.set_extranonce","params":[")" + choices.hex(5) + "\",4]}";
        case 6: return R"({"id":)" + id + R"(,"result":true,"error":null})";
        case 7: return R"({"id":)" + id + R"(,"result":null,"error":[)" + choices.text(6) + ",\"no\"]}";
        case 8: return R"({"id":)" + choices.text(80) + R"(,"method":"mining.ping"})";
        case 9: return R"({"method":"client.reconnect","params":[")" + choices.text(8) + "\"]}";
        case 10: return R"({"method":"mining.set_version_mask","params":[")" + choices.hex(choices.below(6)) + "\"]}";
        default: return choices.text(60);
    }
}

void check_said(Machine& machine) {
    require(machine.out.empty() || machine.out.back() == '\n', "what is said ends with a newline");
    require(machine.out.size() <= 2 * kOutBytesMax, "what is said is bounded");
    require(machine.in_flight() <= kInFlightMax, "shares under way are bounded");
    machine.out.clear();
}

// How many shares were submitted.
uint64_t play(const uint8_t* data, size_t size) {
    Choices choices(data, size);
    const Profile profile = profile_of(choices);
    Shared shared;
    shared.random.seed(choices.byte());
    shared.late = choices.below(2) * 0.3;
    Machine machine(profile, "acme.c01.r01s01");
    machine.connected(shared);
    for (Ns now = kSecond; !choices.empty(); now += kSecond / 10) {
        std::string bytes = line_of(choices);
        if (choices.below(8) != 0) bytes += '\n';
        for (size_t at = 0; at < bytes.size();) {  // in pieces, or whole
            const size_t piece = choices.below(4) == 0 ? 1 + choices.below(9) : bytes.size();
            machine.receive(std::string_view(bytes).substr(at, piece), false, now, shared);
            at += piece;
        }
        check_said(machine);
        const bool mines = machine.state() == Machine::State::Mining && machine.ended.empty();
        for (uint32_t shares = choices.below(20); mines && shares > 0 && machine.may_submit(now, shared); --shares) {
            uint64_t hashes = 200;
            const bool bad = choices.below(4) == 0;
            if (bad) machine.submit_bad(hashes, now, shared);
            const bool found = bad || machine.work_on_share(hashes, now, shared);
            require(hashes <= 200, "no more is hashed than may be");
            require(!found || machine.out.find("mining.submit") != std::string::npos, "a share is submitted");
            check_said(machine);
        }
        if (machine.ended.empty() && choices.below(32) != 0) continue;
        machine.disconnected(shared);
        require(shared.partial_bytes == 0, "pieces of lines are forgotten");
        machine.connected(shared);
    }
    machine.disconnected(shared);
    require(shared.partial_bytes == 0, "pieces of lines are forgotten");
    return shared.report.submitted;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    play(data, size);
    return 0;
}

#ifdef ANGARA_FUZZ_MAIN
int main(int argc, char** argv) {
    const uint64_t count = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1000;
    const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
    std::printf("%llu conversations from seed %llu\n", static_cast<unsigned long long>(count),
                static_cast<unsigned long long>(seed));
    std::mt19937_64 random(seed);
    uint64_t shares = 0;
    for (uint64_t i = 0; i < count; ++i) {
        std::vector<uint8_t> data(random() % 4096);
        for (uint8_t& byte : data) byte = static_cast<uint8_t>(random());
        shares += play(data.data(), data.size());
    }
    std::printf("%llu shares\n", static_cast<unsigned long long>(shares));
    require(shares > 0, "some conversations come as far as work");
}
#endif
