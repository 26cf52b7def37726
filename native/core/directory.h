// Which name has which slot, and what each target is owed, for the processes that share a named region. Everything
// here is read and written under the table's writer lock, so it needs no order of its own; only a record's version
// is looked at without it.
//
// Names are found through chains that begin in `heads`. A record is whole, and in its chain, before its slot can be
// seen; whoever dies in between leaves a slot that the next writer frees (Table::repair), and the chains are made anew.
#pragma once

#include <cstring>
#include <string_view>

#include "region.h"

namespace foretoken {

struct Settings {
  double reservation, weight, limit, limitBurst, throttlingCost;  // tokens/s, relative, tokens/s, tokens, relative
};

inline constexpr uint32_t kLongestName = 128;  // bytes of UTF-8

struct alignas(64) Record {
  std::atomic<uint64_t> version;  // the roster's when this was last changed, 0 if never
  uint32_t generation;
  uint32_t next;       // slot of the next in the chain, 0 at its end
  uint32_t nameBytes;  // 0: nobody has this slot
  uint32_t hash;
  Settings settings;
  char name[kLongestName];
};
static_assert(sizeof(Record) == 192);

class Directory {
 public:
  static constexpr uint64_t bytesFor(uint64_t capacity) noexcept { return headsFor(capacity) * sizeof(uint32_t) + (capacity + 1) * sizeof(Record) + 64; }

  explicit Directory(Region& region) noexcept
      : table_(region.table()), header_(region.header()), heads_(headsFor(header_.capacity)),
        head_(reinterpret_cast<uint32_t*>(region.directory())),
        record_(reinterpret_cast<Record*>((reinterpret_cast<uintptr_t>(head_ + heads_) + 63) & ~uintptr_t{63})) {}

  // The target of that name: an existing one as it is, or a new one with these settings.
  template <class Clock>
  Status put(std::string_view name, uint64_t flags, const Settings& settings, Slot& out, bool& existed, Clock&& clock) noexcept {
    return locked([&] {
      const uint32_t hash = hashOf(name);
      existed = false;
      if (const uint32_t index = find(name, hash)) {
        out = {index, record_[index].generation};
        existed = true;
        return kOk;
      }
      return table_.addLocked(flags, out, clock, [&](Slot slot) {
        Record& r = record_[slot.index];
        r.generation = slot.generation;
        r.nameBytes = static_cast<uint32_t>(name.size());
        r.hash = hash;
        r.settings = settings;
        std::memcpy(r.name, name.data(), name.size());
        chain(slot.index);
        touch(r);
      });
    });
  }

  Status set(Slot slot, const Settings& settings) noexcept {
    return locked([&] {
      if (!table_.isLive(slot)) return kStale;
      record_[slot.index].settings = settings;
      touch(record_[slot.index]);
      return kOk;
    });
  }

  template <class Clock>
  Status remove(Slot slot, Clock&& clock) noexcept {
    return locked([&] {
      const Status s = table_.removeLocked(slot, clock);
      if (s == kStale) return s;
      unchain(slot.index);
      record_[slot.index].nameBytes = 0;
      touch(record_[slot.index]);
      return s;
    });
  }

  Status lookUp(std::string_view name, Slot& out, Settings& settings) noexcept {
    return locked([&] {
      const uint32_t index = find(name, hashOf(name));
      if (!index) return kStale;
      out = {index, record_[index].generation};
      settings = record_[index].settings;
      return kOk;
    });
  }

  // Tells of every slot that has changed since that version; a slot nobody has any more has an empty name.
  template <class Fn>
  Status changedSince(uint64_t version, Fn&& tell) noexcept {
    constexpr uint32_t kAtOnce = 64;
    for (uint32_t from = 1; from < table_.highWater(); from += kAtOnce) {
      const uint32_t to = std::min(from + kAtOnce, table_.highWater());
      bool any = false;
      for (uint32_t i = from; i < to; ++i) any = any || record_[i].version.load(std::memory_order_acquire) > version;
      if (!any) continue;
      const Status s = locked([&] {
        for (uint32_t i = from; i < to; ++i) {
          const Record& r = record_[i];
          if (r.version.load(std::memory_order_relaxed) <= version) continue;
          tell(Slot{i, r.generation}, std::string_view(r.name, isTaken(i) ? r.nameBytes : 0), r.settings);
        }
        return kOk;
      });
      if (s != kOk) return s;
    }
    return kOk;
  }

  // acquire: records up to this version are there.
  uint64_t version() const noexcept { return header_.rosterVersion.load(std::memory_order_acquire); }

 private:
  static constexpr uint64_t headsFor(uint64_t capacity) noexcept {
    uint64_t heads = 64;
    while (heads < capacity) heads *= 2;
    return heads;
  }

  // FNV-1a.
  static uint32_t hashOf(std::string_view name) noexcept {
    uint32_t hash = 2166136261u;
    for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
    return hash;
  }

  bool isTaken(uint32_t index) const noexcept {
    return record_[index].nameBytes != 0 && table_.isLive({index, record_[index].generation});
  }

  uint32_t find(std::string_view name, uint32_t hash) const noexcept {
    for (uint32_t i = head_[hash & (heads_ - 1)]; i; i = record_[i].next) {
      const Record& r = record_[i];
      if (r.hash == hash && r.nameBytes == name.size() && isTaken(i) && std::memcmp(r.name, name.data(), name.size()) == 0) return i;
    }
    return 0;
  }

  void chain(uint32_t index) noexcept {
    uint32_t& head = head_[record_[index].hash & (heads_ - 1)];
    record_[index].next = head;
    head = index;
  }

  void unchain(uint32_t index) noexcept {
    for (uint32_t* at = &head_[record_[index].hash & (heads_ - 1)]; *at; at = &record_[*at].next)
      if (*at == index) {
        *at = record_[index].next;
        return;
      }
  }

  void touch(Record& r) noexcept {
    const uint64_t version = header_.rosterVersion.load(std::memory_order_relaxed) + 1;
    r.version.store(version, std::memory_order_release);
    // release [roster]: pairs with version().
    header_.rosterVersion.store(version, std::memory_order_release);
  }

  void rebuild() noexcept {
    std::memset(head_, 0, heads_ * sizeof(uint32_t));
    for (uint32_t i = 1; i < table_.highWater(); ++i) {
      if (isTaken(i)) chain(i);
      else if (record_[i].nameBytes) {
        record_[i].nameBytes = 0;
        touch(record_[i]);
      }
    }
  }

  template <class Fn>
  Status locked(Fn&& fn) noexcept {
    return table_.exclusively([&] {
      const uint64_t repairs = header_.repairs.load(std::memory_order_relaxed);
      if (header_.rosterRepairs.load(std::memory_order_relaxed) != repairs) {
        rebuild();
        header_.rosterRepairs.store(repairs, std::memory_order_relaxed);
      }
      return fn();
    });
  }

  PlainTable& table_;
  PlainHeader& header_;
  uint64_t heads_;
  uint32_t* head_;
  Record* record_;
};

}  // namespace foretoken
