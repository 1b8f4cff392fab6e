#include "submit_parser.hpp"

namespace angara {
namespace {

struct Cursor {
    const char* at;
    const char* end;

    bool done() const { return at == end; }
    char peek() const { return at == end ? '\0' : *at; }
    void skip_space() {
        while (at != end && (*at == ' ' || *at == '\t' || *at == '\r')) ++at;
    }
    bool take(char c) {
        skip_space();
        if (at == end || *at != c) return false;
        ++at;
        return true;
    }
    // A string without escapes or control characters; the view excludes the quotes.
    bool string(std::string_view& out) {
        if (!take('"')) return false;
        const char* start = at;
        for (; at != end; ++at) {
            const auto c = static_cast<unsigned char>(*at);
            if (c == '"') {
                out = {start, static_cast<size_t>(at - start)};
                ++at;
                return true;
            }
            if (c == '\\' || c < 0x20) return false;
        }
        return false;
    }
    static bool digit(char c) { return c >= '0' && c <= '9'; }
    // RFC 8259 number: -? int frac? exp?
    bool number(std::string_view& out) {
        const char* start = at;
        if (peek() == '-') ++at;
        if (peek() == '0') {
            ++at;
        } else {
            if (!digit(peek())) return false;
            while (digit(peek())) ++at;
        }
        if (peek() == '.') {
            ++at;
            if (!digit(peek())) return false;
            while (digit(peek())) ++at;
        }
        if (peek() == 'e' || peek() == 'E') {
            ++at;
            if (peek() == '+' || peek() == '-') ++at;
            if (!digit(peek())) return false;
            while (digit(peek())) ++at;
        }
        out = {start, static_cast<size_t>(at - start)};
        return true;
    }
    bool word(std::string_view expected, std::string_view& out) {
        if (static_cast<size_t>(end - at) < expected.size()) return false;
        out = {at, expected.size()};
        if (out != expected) return false;
        at += expected.size();
        return true;
    }
    // null, true, false, a number, or a plain string: the raw JSON text of it.
    bool scalar(std::string_view& raw) {
        skip_space();
        const char* start = at;
        std::string_view inner;
        switch (peek()) {
            case '"':
                if (!string(inner)) return false;
                for (const char c : inner)  // echoed: only what is valid UTF-8 for certain
                    if (static_cast<unsigned char>(c) >= 0x80) return false;
                raw = {start, static_cast<size_t>(at - start)};
                return true;
            case 'n': return word("null", raw);
            case 't': return word("true", raw);
            case 'f': return word("false", raw);
            default: return number(raw);
        }
    }
    bool params(Submit& submit) {
        if (!take('[')) return false;
        while (submit.count < Submit::kParamsMax) {
            Param& param = submit.params[submit.count];
            skip_space();
            if (peek() == '"') {
                if (!string(param.text)) return false;
            } else {
                if (!number(param.text)) return false;
                for (const char c : param.text)
                    if (!digit(c)) return false;
                param.number = true;
            }
            ++submit.count;
            if (take(']')) return true;
            if (!take(',')) return false;
        }
        return false;
    }
};

int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

std::string_view without_0x(std::string_view text) {
    if (text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) text.remove_prefix(2);
    return text;
}

std::optional<uint64_t> read_hex(std::string_view text) {
    constexpr size_t kDigitsMax = 16;  // 64 bits
    text = without_0x(text);
    if (text.empty() || text.size() > kDigitsMax) return std::nullopt;
    uint64_t value = 0;
    for (const char c : text) {
        const int digit = hex_value(c);
        if (digit < 0) return std::nullopt;
        value = value << 4 | static_cast<uint64_t>(digit);
    }
    return value;
}

}  // namespace

std::optional<Submit> parse_submit(std::string_view line) {
    Cursor cursor{line.data(), line.data() + line.size()};
    Submit submit;
    bool have_id = false, have_method = false, have_params = false, have_version = false;
    if (!cursor.take('{')) return std::nullopt;
    do {
        std::string_view key, value;
        if (!cursor.string(key) || !cursor.take(':')) return std::nullopt;
        if (key == "id" && !have_id) {
            have_id = cursor.scalar(submit.id);
            if (!have_id) return std::nullopt;
        } else if (key == "method" && !have_method) {
            have_method = cursor.string(value);
            if (!have_method || value != "mining.submit") return std::nullopt;
        } else if (key == "params" && !have_params) {
            have_params = cursor.params(submit);
            if (!have_params) return std::nullopt;
        } else if (key == "jsonrpc" && !have_version) {
            have_version = cursor.scalar(value);
            if (!have_version) return std::nullopt;
        } else {
            return std::nullopt;
        }
    } while (cursor.take(','));
    if (!cursor.take('}')) return std::nullopt;
    cursor.skip_space();
    if (!cursor.done() || !have_method || !have_params || submit.count < 5) return std::nullopt;
    return submit;
}

std::optional<uint32_t> read_u32(const Param& param) {
    constexpr uint64_t kMax = 0xffffffffu;
    if (!param.number) {
        const auto value = read_hex(param.text);
        if (!value || *value > kMax) return std::nullopt;
        return static_cast<uint32_t>(*value);
    }
    uint64_t value = 0;
    for (const char c : param.text) {  // parse_submit left only digits
        value = value * 10 + static_cast<uint64_t>(c - '0');
        if (value > kMax) return std::nullopt;
    }
    return static_cast<uint32_t>(value);
}

std::optional<uint64_t> read_job_id(const Param& param) { return read_hex(param.text); }

bool read_bytes(const Param& param, uint8_t* out, size_t size) {
    if (param.number) return false;
    const std::string_view text = without_0x(param.text);
    if (text.size() != 2 * size) return false;
    for (size_t i = 0; i < size; ++i) {
        const int high = hex_value(text[2 * i]), low = hex_value(text[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        out[i] = static_cast<uint8_t>(high << 4 | low);
    }
    return true;
}

}  // namespace angara
