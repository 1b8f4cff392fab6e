// An input of the fuzzers, read as a program; and inputs that are made up where there is no libFuzzer.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace angara::fuzz {

class Input {
  public:
    Input(const uint8_t* data, size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}
    bool empty() const { return rest_.empty(); }
    uint8_t byte() {
        if (rest_.empty()) return 0;
        const auto value = static_cast<uint8_t>(rest_[0]);
        rest_.remove_prefix(1);
        return value;
    }
    size_t below(size_t bound) { return byte() % bound; }
    std::string text(size_t size) {
        const std::string taken(rest_.substr(0, size));
        rest_.remove_prefix(taken.size());
        return taken;
    }

  private:
    std::string_view rest_;
};

// arguments: INPUTS [SEED [FILE...]]. So many made-up inputs, the same for the same seed, then those in the files.
inline int run_made_up(int argc, char** argv, int (*run)(const uint8_t*, size_t)) {
    constexpr size_t kSizeMax = 1200;
    const long inputs = argc > 1 ? std::atol(argv[1]) : 0, seed = argc > 2 ? std::atol(argv[2]) : 2009;
    std::printf("%s: %ld made-up inputs, seed %ld\n", argv[0], inputs, seed);
    std::fflush(stdout);  // also when a promise is broken
    std::mt19937 random(static_cast<std::mt19937::result_type>(seed));
    std::vector<uint8_t> input;
    for (long i = 0; i < inputs; ++i) {
        input.resize(random() % kSizeMax);
        for (uint8_t& byte : input) byte = static_cast<uint8_t>(random());
        run(input.data(), input.size());
    }
    for (int i = 3; i < argc; ++i) {
        std::ifstream file(argv[i], std::ios::binary);
        input.assign(std::istreambuf_iterator<char>(file), {});
        run(input.data(), input.size());
    }
    std::printf("every promise held, in %d files too\n", std::max(0, argc - 3));
    return 0;
}

}  // namespace angara::fuzz
