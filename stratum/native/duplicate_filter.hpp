// Which header hashes were already credited on one previous block. Exact to 128 bits: a false
// "duplicate" would be a lost share, so this is a set, not a sketch.
#pragma once
#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

namespace angara {

class DuplicateFilter {
  public:
    // 64 Mi hashes (1 to 2 GiB) is five hours of the built-out site's 3,700 shares/s on one previous block.
    static constexpr size_t kEntriesMax = size_t{1} << 26;
    // Small shards of many quick blocks may pile up; beyond this many they go at once.
    static constexpr size_t kRetiredShardsMax = 1024;
    enum class Result { kNew, kDuplicate, kFull };

    explicit DuplicateFilter(size_t entries_max = kEntriesMax) : entries_max_(entries_max) {}

    // hash: 32 bytes, internal order (its first 16 bytes are the ones that no target constrains).
    Result insert(const uint8_t* hash) {
        Key key;
        std::memcpy(&key, hash, sizeof key);
        if (key.low == 0 && key.high == 0) key.high = 1;  // {0, 0} marks a free slot
        Shard& shard = shards_[hash[0]];
        if (!shard.slots.empty()) {
            Key& slot = find(shard.slots, key);
            if (slot == key) return Result::kDuplicate;
            if (entries_ >= entries_max_) return Result::kFull;
            if (shard.used * 3 < shard.slots.size() * 2) {
                slot = key;
                ++shard.used;
                ++entries_;
                return Result::kNew;
            }
        } else if (entries_ >= entries_max_) {
            return Result::kFull;
        }
        grow(shard);
        find(shard.slots, key) = key;
        ++shard.used;
        ++entries_;
        return Result::kNew;
    }

    // Forgets everything. The memory goes back a shard at a time in release_some(), so that a new block
    // does not wait for the kernel to take back a hundred megabytes.
    void clear() {
        if (retired_.size() > kRetiredShardsMax) retired_.clear();
        for (Shard& shard : shards_) {
            if (!shard.slots.empty()) retired_.push_back(std::move(shard.slots));
            shard = Shard{};
        }
        entries_ = 0;
    }
    void release_some() {
        if (!retired_.empty()) retired_.pop_back();
    }
    size_t size() const { return entries_; }

  private:
    struct Key {
        uint64_t low, high;
        bool operator==(const Key&) const = default;
    };
    // Shards keep the pause of a growing table to 1/256 of it.
    struct Shard {
        std::vector<Key> slots;  // a power of two, at most two thirds used
        size_t used = 0;
    };
    static Key& find(std::vector<Key>& slots, const Key& key) {
        const size_t mask = slots.size() - 1;
        size_t i = static_cast<size_t>(key.low >> 8 ^ key.high) & mask;
        while (!(slots[i] == key) && !(slots[i] == Key{0, 0})) i = (i + 1) & mask;
        return slots[i];
    }
    static void grow(Shard& shard) {
        std::vector<Key> old = std::move(shard.slots);
        shard.slots.assign(old.empty() ? 16 : 2 * old.size(), Key{0, 0});
        for (const Key& key : old)
            if (!(key == Key{0, 0})) find(shard.slots, key) = key;
    }

    std::array<Shard, 256> shards_;
    std::vector<std::vector<Key>> retired_;
    size_t entries_ = 0;
    size_t entries_max_;
};

}  // namespace angara
