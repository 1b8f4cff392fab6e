// Stratum on the client's side, as little of it as a load generator needs: slices of a JSON line
// without copying, and submit lines that are formatted once a job and patched for every share.
// Knows nothing of sockets, time or sessions.
#pragma once
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

namespace load {

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
    std::string_view id, method, params, result, error;

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
        }
        return !line.empty() && line[0] == '{' && members.complete();
    }
};

// A mining.submit of one session on one job. Ids run in kIds, from kFirstId: always four digits, so
// that a share costs three patches of fixed width.
class SubmitLine {
  public:
    static constexpr uint32_t kFirstId = 1024;
    static constexpr uint32_t kIds = 8192;

    void format(std::string_view worker, std::string_view job, std::string_view ntime, size_t extranonce2_size) {
        line_ = R"({"id":)";
        id_at_ = line_.size();
        line_ += R"(0000,"method":"mining.submit","params":[")";
        line_.append(worker).append("\",\"").append(job).append("\",\"");
        line_.append(2 * extranonce2_size, '0');
        extranonce2_digits_ = extranonce2_size < 4 ? 2 * extranonce2_size : 8;
        extranonce2_at_ = line_.size() - extranonce2_digits_;
        line_.append("\",\"").append(ntime).append("\",\"");
        nonce_at_ = line_.size();
        line_ += "00000000\"]}\n";
    }

    std::string_view patched(uint32_t sequence, uint32_t nonce) {
        uint32_t id = kFirstId + sequence % kIds;
        for (size_t at = id_at_ + 4; at-- > id_at_; id /= 10) line_[at] = static_cast<char>('0' + id % 10);
        put_hex(extranonce2_at_, extranonce2_digits_, sequence);
        put_hex(nonce_at_, 8, nonce);
        return line_;
    }

  private:
    void put_hex(size_t at, size_t digits, uint32_t value) {
        for (; digits-- > 0; value >>= 4) line_[at + digits] = "0123456789abcdef"[value & 15];
    }

    std::string line_;
    size_t id_at_ = 0, extranonce2_at_ = 0, extranonce2_digits_ = 0, nonce_at_ = 0;
};

}  // namespace load
