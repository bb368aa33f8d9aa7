#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

namespace detour::server {

/// A bound on how many of something there are at once. Safe from any thread; places may outlive it.
class Places {
 public:
  explicit Places(std::uint32_t max) : max_(max) {}

  /// One place; given back when it is destroyed.
  class Place {
   public:
    Place() = default;
    Place(Place&& other) noexcept = default;
    Place& operator=(Place&& other) noexcept {
      if (this != &other) {
        give_back();
        taken_ = std::move(other.taken_);
      }
      return *this;
    }
    ~Place() { give_back(); }

    explicit operator bool() const { return taken_ != nullptr; }

   private:
    friend class Places;
    void give_back() {
      if (taken_) std::exchange(taken_, nullptr)->fetch_sub(1);
    }

    std::shared_ptr<std::atomic<std::uint32_t>> taken_;
  };

  /// Nothing when all are taken.
  [[nodiscard]] Place take() {
    std::uint32_t taken = taken_->load();
    do {
      if (taken >= max_) return {};
    } while (!taken_->compare_exchange_weak(taken, taken + 1));
    Place place;
    place.taken_ = taken_;
    return place;
  }

  /// Before the first one is taken.
  void set_max(std::uint32_t max) { max_ = max; }
  [[nodiscard]] std::uint32_t max() const { return max_; }

 private:
  std::uint32_t max_;
  std::shared_ptr<std::atomic<std::uint32_t>> taken_ =
      std::make_shared<std::atomic<std::uint32_t>>(0);
};

}  // namespace detour::server
