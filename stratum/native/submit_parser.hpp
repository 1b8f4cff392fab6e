// Finds mining.submit in a line of JSON without allocating, and reads hex as firmware writes it.
// Sees hostile bytes first: every access is bounded by the view it was given. Anything that is not a
// plain mining.submit (other methods, escapes, nesting, duplicate keys, bad JSON) is not judged here:
// it goes to Python, whose decoder is strict.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace angara {

// One element of params: a string without escapes, or a JSON integer without sign.
struct Param {
    std::string_view text;
    bool number = false;
};

struct Submit {
    static constexpr size_t kParamsMax = 6;  // worker, job, extranonce2, ntime, nonce, version bits
    std::string_view id{"null"};             // raw JSON, echoed as it came
    std::array<Param, kParamsMax> params;
    size_t count = 0;
};

// The submit in `line` (no line feed), or nothing when the line is for Python. Views point into line.
std::optional<Submit> parse_submit(std::string_view line);

// 32 bits as firmware writes them: hex of either case with or without 0x, too few or too many leading
// zeros, or a JSON integer. Nothing when it is not a number of 32 bits.
std::optional<uint32_t> read_u32(const Param& param);

// A job id: 1 to 16 hex digits of either case with or without 0x.
std::optional<uint64_t> read_job_id(const Param& param);

// Exactly `size` bytes of hex into out; false otherwise. Bytes have no unambiguous padding.
bool read_bytes(const Param& param, uint8_t* out, size_t size);

}  // namespace angara
