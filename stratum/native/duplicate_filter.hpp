// Which header hashes were already credited on one previous block. Exact to 128 bits: a false
// "duplicate" would be a lost share, so this is a set, not a sketch.
#pragma once
#include <array>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace angara {

class DuplicateFilter {
    struct Key {
        uint64_t low, high;
        bool operator==(const Key&) const = default;
    };

  public:
    static constexpr size_t kKeyBytes = 16;  // of a hash, which tell it apart
    // 64 Mi hashes (1 to 2 GiB) is five hours of the built-out site's 3,700 shares/s on one previous block.
    static constexpr size_t kEntriesMax = size_t{1} << 26;
    enum class Result { kNew, kDuplicate, kFull };
    using Slots = std::vector<Key>;  // a power of two, at most two thirds used

    explicit DuplicateFilter(size_t entries_max = kEntriesMax) : entries_max_(entries_max) {}

    // hash: at least kKeyBytes of it, internal order (its first 16 bytes are the ones that no target constrains).
    Result insert(const uint8_t* hash) {
        const Key key = key_of(hash);
        Shard& shard = shards_[hash[0]];
        if (!shard.slots.empty() && *find(shard.slots, key) == key) return Result::kDuplicate;
        if (entries_ >= entries_max_) return Result::kFull;
        if (3 * (shard.used + 1) > 2 * shard.slots.size()) grow(shard.slots);
        *find(shard.slots, key) = key;
        ++shard.used;
        ++entries_;
        return Result::kNew;
    }

    // Has the processor fetch where a hash belongs: of millions that is not near, and who asks for many of
    // them waits for the first alone.
    [[gnu::always_inline]] void fetch(const uint8_t* hash) const {  // else GCC sees no effect, and no call
        const Slots& slots = shards_[hash[0]].slots;
        if (!slots.empty()) __builtin_prefetch(&slots[home_of(slots, key_of(hash))], 1);
    }

    // Moves every table to `into`. Who wants rid of a large filter frees them one at a time: the kernel
    // takes milliseconds to take back a hundred megabytes.
    void dismantle(std::vector<Slots>& into) {
        for (Shard& shard : shards_)
            if (!shard.slots.empty()) into.push_back(std::move(shard.slots));
        shards_ = {};
        entries_ = 0;
    }
    size_t size() const { return entries_; }

  private:
    // Shards keep the pause of a growing table to 1/256 of it.
    struct Shard {
        Slots slots;
        size_t used = 0;
    };
    static Key key_of(const uint8_t* hash) {
        Key key;
        static_assert(sizeof key == kKeyBytes);
        std::memcpy(&key, hash, sizeof key);
        if (key == Key{0, 0}) key.high = 1;  // {0, 0} marks a free slot
        return key;
    }
    static size_t home_of(const Slots& slots, const Key& key) {
        return static_cast<size_t>(key.low >> 8 ^ key.high) & (slots.size() - 1);
    }
    // The slot of `key`, or the free one where it belongs.
    static Key* find(Slots& slots, const Key& key) {
        const size_t mask = slots.size() - 1;
        size_t i = home_of(slots, key);
        while (!(slots[i] == key) && !(slots[i] == Key{0, 0})) i = (i + 1) & mask;
        return &slots[i];
    }
    static void grow(Slots& slots) {
        Slots larger(slots.empty() ? 16 : 2 * slots.size(), Key{0, 0});
        for (const Key& key : slots)
            if (!(key == Key{0, 0})) *find(larger, key) = key;
        slots = std::move(larger);
    }

    std::array<Shard, 256> shards_;
    size_t entries_ = 0;
    size_t entries_max_;
};

}  // namespace angara
