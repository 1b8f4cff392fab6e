// Stratum on the client's side, as little of it as simulated machines need: slices of a JSON line without
// copying, hex, and submit lines that are formatted once a job and patched for every share. What it reads is
// a stranger's: nothing is read beyond the line, and nothing recurses. Knows nothing of sockets, time or machines.
#pragma once
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace angara::swarm {

// Past the JSON value that starts at `at`; npos when the text ends before it does.
inline size_t skip_value(std::string_view text, size_t at) {
    constexpr size_t npos = std::string_view::npos;
    const auto skip_string = [text](size_t opening) {
        for (size_t quote = opening; (quote = text.find('"', quote + 1)) != npos;) {
            size_t backslashes = 0;
            while (text[quote - 1 - backslashes] == '\\') ++backslashes;
            if (backslashes % 2 == 0) return quote + 1;
        }
        return npos;
    };
    if (at >= text.size()) return npos;
    if (text[at] == '"') return skip_string(at);
    if (text[at] != '[' && text[at] != '{') return text.find_first_of(",]} \t\r", at);
    for (size_t depth = 0; at < text.size();) {
        const char c = text[at];
        if (c == '"') {
            at = skip_string(at);
            if (at == npos) return npos;
            continue;
        }
        ++at;
        if (c == '[' || c == '{') ++depth;
        if ((c == ']' || c == '}') && --depth == 0) return at;
    }
    return npos;
}

// Walks the elements of an array, or the keys and values of an object in turn.
class Elements {
  public:
    explicit Elements(std::string_view container) : text_(container) {
        at_ = text_.empty() || (text_[0] != '[' && text_[0] != '{') ? text_.size() : 1;
    }

    // The next element as it stands in the text; false at the end of the container or of the text.
    bool next(std::string_view& element) {
        at_ = text_.find_first_not_of(" \t\r,:", at_);
        if (at_ == std::string_view::npos || text_[at_] == ']' || text_[at_] == '}') return stop();
        const size_t end = skip_value(text_, at_);
        if (end == std::string_view::npos) return stop();
        element = text_.substr(at_, end - at_);
        at_ = end;
        return true;
    }

    // True when next() has come to the closing bracket, not to the end of a torn text.
    bool complete() const { return complete_; }

  private:
    bool stop() {
        complete_ = at_ < text_.size();
        if (complete_) complete_ = text_[at_] == ']' || text_[at_] == '}';
        at_ = text_.size();
        return false;
    }

    std::string_view text_;
    size_t at_ = 0;
    bool complete_ = false;
};

inline std::string_view unquoted(std::string_view value) {
    if (value.size() < 2 || value.front() != '"') return {};
    return value.substr(1, value.size() - 2);
}

// The array's element number `index`, or empty.
inline std::string_view element_of(std::string_view array, size_t index) {
    Elements elements(array);
    std::string_view value;
    while (elements.next(value)) {
        if (index-- == 0) return value;
    }
    return {};
}

// A small unsigned number; `otherwise` when the text is something else.
inline uint32_t number_of(std::string_view text, uint32_t otherwise) {
    if (text.empty() || text.size() > 9) return otherwise;
    uint32_t value = 0;
    for (const char c : text) {
        if (c < '0' || c > '9') return otherwise;
        value = value * 10 + static_cast<uint32_t>(c - '0');
    }
    return value;
}

// One line of the pool. Slices of the line: valid as long as it is.
struct Message {
    std::string_view id, method, params, result, error, reason;  // reason: of servers that have no codes

    // False when the line is not a whole JSON object.
    bool parse(std::string_view line) {
        line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
        Elements members(line);
        std::string_view key;
        std::string_view value;
        while (members.next(key) && members.next(value)) {
            const std::string_view name = unquoted(key);
            if (name == "id") id = value;
            if (name == "method") method = unquoted(value);
            if (name == "params") params = value;
            if (name == "result") result = value;
            if (name == "error") error = value;
            if (name == "reject-reason") reason = unquoted(value);
        }
        return !line.empty() && line[0] == '{' && members.complete();
    }
};

// A number, also as text in quotes, as some servers write difficulties; nothing for what is not finite.
inline std::optional<double> real_of(std::string_view text) {
    if (text.size() > 1 && text.front() == '"') text = unquoted(text);
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
    return value;
}

// The code of an error, `[code, words, ...]` or `{"code": code, ...}`; 0 where it has none.
inline int code_of(std::string_view error) {
    std::string_view text = element_of(error, 0);
    if (!error.empty() && error.front() == '{') {
        Elements members(error);
        for (std::string_view key; members.next(key) && members.next(text);) {
            if (unquoted(key) == "code") break;
            text = {};
        }
    }
    const bool negative = !text.empty() && text.front() == '-';
    const auto code = static_cast<int>(number_of(text.substr(negative ? 1 : 0), 0));
    return negative ? -code : code;
}

inline int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

// Appends the bytes; false when it is no hex of whole bytes.
inline bool bytes_of_hex(std::string_view text, std::string& bytes) {
    if (text.size() % 2 != 0) return false;
    bytes.reserve(bytes.size() + text.size() / 2);
    for (size_t i = 0; i < text.size(); i += 2) {
        const int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);
        if (high < 0 || low < 0) return false;
        bytes.push_back(static_cast<char>(high << 4 | low));
    }
    return true;
}

// 1 to 8 digits; nothing for anything else.
inline std::optional<uint32_t> uint32_of_hex(std::string_view text) {
    if (text.empty() || text.size() > 8) return std::nullopt;
    uint32_t value = 0;
    for (const char c : text) {
        const int digit = hex_digit(c);
        if (digit < 0) return std::nullopt;
        value = value << 4 | static_cast<uint32_t>(digit);
    }
    return value;
}

inline void put_hex(char* at, size_t digits, uint64_t value) {
    for (; digits-- > 0; value >>= 4) at[digits] = "0123456789abcdef"[value & 15];
}

inline std::string hex_of(uint32_t value) {
    std::string text(8, '0');
    put_hex(text.data(), 8, value);
    return text;
}

// A mining.submit of one machine on one job. Ids run in kIds, from kFirstId: always four digits, so that a
// share costs two patches of fixed width. Some firmware has one id for all of them.
class SubmitLine {
  public:
    static constexpr uint32_t kFirstId = 1024;
    static constexpr uint32_t kIds = 8192;
    static constexpr uint32_t kFixedId = 4;

    void format(bool fixed_id, std::string_view worker, std::string_view job, std::string_view extranonce2,
                std::string_view ntime, std::optional<uint32_t> rolled_bits) {
        line_ = R"({"id":)";
        id_at_ = fixed_id ? 0 : line_.size();
        line_ += fixed_id ? "4" : "0000";
        line_.append(R"(,"method":"mining.submit","params":[")").append(worker).append("\",\"").append(job);
        line_.append("\",\"").append(extranonce2).append("\",\"").append(ntime).append("\",\"");
        nonce_at_ = line_.size();
        line_ += "00000000\"";
        if (rolled_bits) line_.append(",\"").append(hex_of(*rolled_bits)).append("\"");
        line_ += "]}\n";
    }

    std::string_view patched(uint32_t sequence, uint32_t nonce) {
        uint32_t id = kFirstId + sequence % kIds;
        for (size_t at = id_at_ + 4; id_at_ != 0 && at-- > id_at_; id /= 10) {
            line_[at] = static_cast<char>('0' + id % 10);
        }
        put_hex(line_.data() + nonce_at_, 8, nonce);
        return line_;
    }

  private:
    std::string line_;
    size_t id_at_ = 0, nonce_at_ = 0;  // id_at_ 0: the id is fixed
};

}  // namespace angara::swarm
