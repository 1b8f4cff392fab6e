// What a machine hashes: a job of the server, the target of a difficulty, and the search for a nonce that meets
// it. Real hashes, by the engine's SHA-256. Everything that a server says is looked at here before it is used,
// and has a bound. Knows nothing of sockets, machines or time.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace angara::swarm {

constexpr size_t kBranchNodesMax = 32;           // 2^32 transactions: no block has more
constexpr size_t kJobIdMax = 128;                // bytes, as they stand in the line
constexpr size_t kExtranonce1Max = 32;           // bytes; servers give 3 to 12
constexpr uint32_t kExtranonce2Max = 8;          // bytes; what firmware takes at most
constexpr size_t kWorkBytesMax = 256ULL << 20;  // of all jobs together: a server can give each machine its own

// A 256-bit number, the least significant word first.
using Target = std::array<uint64_t, 4>;

// DIFF1 / difficulty, rounded down; all ones where that is beyond 256 bits. The difficulty is positive and finite.
Target target_from_difficulty(double difficulty);

// How many hashes a share of this difficulty takes on average; 1 at least.
double hashes_from_difficulty(double difficulty);

// One mining.notify. Integers are as in the header, hashes in the header's order of bytes.
struct Job {
    std::string id, ntime_hex;  // as the server wrote them: they are sent back
    std::string coinbase1, coinbase2, branch;
    std::array<uint8_t, 32> prevhash{};
    uint32_t version = 0, nbits = 0, ntime = 0;
    bool clean = false;

    size_t bytes() const { return sizeof(Job) + coinbase1.size() + coinbase2.size() + branch.size(); }
};

// All jobs that some machine still has. Most servers say the same line to everybody: it is read once.
class Jobs {
  public:
    // The job of these parameters; without one, `problem` says why.
    std::shared_ptr<const Job> read(std::string_view line, std::string_view params, std::string& problem);

    // The last job, where this is its line once more.
    std::shared_ptr<const Job> again(std::string_view line) const { return line == last_line_ ? last_ : nullptr; }

  private:
    std::shared_ptr<size_t> bytes_ = std::make_shared<size_t>(0);
    std::string last_line_;
    std::shared_ptr<const Job> last_;
};

// A job as one machine has it: with what was in force for it when the job came.
struct Work {
    std::shared_ptr<const Job> job;
    std::string extranonce1;
    uint32_t extranonce2_size = 0;
    Target target{};
    double hashes = 1;  // a share's, on average
};

// Where a machine is among the nonces of one header. Copied with the machine: a hundred bytes.
class Search {
  public:
    static constexpr uint64_t kBeginHashes = 16;  // what a beginning costs, about: coinbase and branch

    // `rolled_bits` are within `mask`. `extranonce2` is cut to what the work has room for.
    void begin(const Work& work, uint64_t extranonce2, uint32_t mask, uint32_t rolled_bits, uint32_t first_nonce);

    bool begun() const { return begun_; }
    void forget() { begun_ = false; }

    // Hashes until a nonce meets the target, or `hashes_left` is used up, which it is reduced by. `nonce` is the
    // last that was looked at. False, and forgotten, as well when all nonces were looked at.
    bool step(const Target& target, double expected, uint64_t& hashes_left, uint32_t& nonce);

    // In hex, as it is submitted.
    std::string extranonce2_hex() const;
    uint32_t rolled_bits() const { return rolled_bits_; }

  private:
    std::array<uint32_t, 8> midstate_{};
    std::array<uint8_t, 12> tail_{};  // of the header, before the nonce
    uint64_t extranonce2_ = 0, looked_at_ = 0;
    uint32_t extranonce2_size_ = 0, nonce_ = 0, rolled_bits_ = 0;
    bool begun_ = false;
};

}  // namespace angara::swarm
