// Counts shares by worker, rate, difficulty and verdict until somebody takes them.
#pragma once
#include <cstdint>
#include <vector>

namespace angara {

// One line of the journal to be. 16 bytes, native byte order: module.cpp hands them out packed.
struct Tally {
    uint32_t worker = 0, rate = 0;
    int8_t difficulty_log2 = 0;
    uint8_t verdict = 0;
    uint16_t zero = 0;
    uint32_t count = 0;
    bool same_key(const Tally& other) const {
        return worker == other.worker && rate == other.rate && difficulty_log2 == other.difficulty_log2 &&
               verdict == other.verdict;
    }
};
static_assert(sizeof(Tally) == 16);

// Open addressing over a power of two; distinct keys are bounded by workers times their few
// difficulties between two takes.
class TallyTable {
  public:
    void add(Tally key) {
        if (3 * (used_ + 1) > 2 * slots_.size()) grow();
        Tally& slot = find(key);
        if (slot.count == 0) {
            slot = key;
            slot.count = 0;
            ++used_;
        }
        if (slot.count != UINT32_MAX) ++slot.count;
    }
    std::vector<Tally> take() {
        std::vector<Tally> taken;
        taken.reserve(used_);
        for (Tally& slot : slots_) {
            if (slot.count == 0) continue;
            taken.push_back(slot);
            slot = Tally{};
        }
        if (slots_.size() > kSlotsKept) slots_ = {};
        used_ = 0;
        return taken;
    }

  private:
    static constexpr size_t kSlotsKept = 4096;  // beyond this, walking free slots costs more than regrowing
    Tally& find(const Tally& key) {
        const size_t mask = slots_.size() - 1;
        uint64_t hash = (uint64_t{key.worker} << 32 | key.rate) * 0x9e3779b97f4a7c15u;
        const uint64_t rest = uint64_t{key.verdict} << 8 | static_cast<uint8_t>(key.difficulty_log2);
        hash ^= rest * 0xff51afd7ed558ccdu;
        size_t i = static_cast<size_t>(hash >> 32) & mask;
        while (slots_[i].count != 0 && !slots_[i].same_key(key)) i = (i + 1) & mask;
        return slots_[i];
    }
    void grow() {
        std::vector<Tally> old(slots_.empty() ? 64 : 2 * slots_.size());
        old.swap(slots_);
        for (const Tally& tally : old)
            if (tally.count != 0) find(tally) = tally;
    }
    std::vector<Tally> slots_;
    size_t used_ = 0;
};

}  // namespace angara
