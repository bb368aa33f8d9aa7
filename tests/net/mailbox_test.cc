#include "net/mailbox.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace detour::net {
namespace {

using std::chrono::seconds;

/// Whether the mailbox wants its worker to wake up; clears the wake-up as a worker does.
bool wakes(Poller& poller, Duration timeout = Duration::zero()) {
  const auto events = poller.wait(timeout);
  for (const epoll_event& event : events)
    static_cast<EventHandler*>(event.data.ptr)->on_event(event.events);
  return !events.empty();
}

TEST(Mailbox, RunsTasksInOrderOnlyWhenAsked) {
  Mailbox mailbox;
  std::vector<int> ran;
  for (int i = 0; i < 5; ++i) mailbox.post([&ran, i] { ran.push_back(i); });
  EXPECT_TRUE(ran.empty());
  mailbox.run_posted();
  EXPECT_EQ(ran, (std::vector<int>{0, 1, 2, 3, 4}));
  mailbox.run_posted();
  EXPECT_EQ(ran.size(), 5U) << "each once";
}

TEST(Mailbox, WakesItsWorkerOncePerBatch) {
  Poller poller;
  Mailbox mailbox;
  ASSERT_TRUE(poller.add(mailbox.fd(), EPOLLIN, mailbox));
  EXPECT_FALSE(wakes(poller));
  mailbox.post([] {});
  mailbox.post([] {});
  EXPECT_TRUE(wakes(poller));
  EXPECT_FALSE(wakes(poller)) << "cleared although nothing ran yet";
  mailbox.run_posted();
  mailbox.post([] {});
  EXPECT_TRUE(wakes(poller));
}

TEST(Mailbox, ATaskMayPostAnother) {
  Poller poller;
  Mailbox mailbox;
  ASSERT_TRUE(poller.add(mailbox.fd(), EPOLLIN, mailbox));
  int ran = 0;
  mailbox.post([&] {
    ++ran;
    mailbox.post([&ran] { ++ran; });
  });
  EXPECT_TRUE(wakes(poller));
  mailbox.run_posted();
  EXPECT_EQ(ran, 1) << "not within the same turn, or it might never end";
  EXPECT_TRUE(wakes(poller));
  mailbox.run_posted();
  EXPECT_EQ(ran, 2);
}

TEST(Mailbox, WhatATaskHoldsIsLetGoAfterItRan) {
  Mailbox mailbox;
  auto held = std::make_shared<int>(1);
  mailbox.post([held] {});
  EXPECT_EQ(held.use_count(), 2);
  mailbox.run_posted();
  EXPECT_EQ(held.use_count(), 1);
}

TEST(Mailbox, WhatNeverRanIsLetGoAtTheEnd) {
  auto held = std::make_shared<int>(1);
  {
    Mailbox mailbox;
    mailbox.post([held] {});
  }
  EXPECT_EQ(held.use_count(), 1);
}

TEST(Mailbox, LosesNothingThatManyThreadsPost) {
  constexpr int kThreads = 4;
  constexpr int kPosts = 2000;
  Poller poller;
  Mailbox mailbox;
  ASSERT_TRUE(poller.add(mailbox.fd(), EPOLLIN, mailbox));
  std::vector<int> last(kThreads, -1);
  int ran = 0;
  bool in_order = true;
  std::vector<std::thread> threads;
  for (std::size_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < kPosts; ++i) {
        mailbox.post([&, thread, i] {
          in_order = in_order && last[thread] == i - 1;
          last[thread] = i;
          ++ran;
        });
      }
    });
  }
  // Sleeps until woken: a lost wake-up shows as the time-out.
  while (ran < kThreads * kPosts) {
    ASSERT_TRUE(wakes(poller, seconds(20)));
    mailbox.run_posted();
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ran, kThreads * kPosts);
  EXPECT_TRUE(in_order);
}

}  // namespace
}  // namespace detour::net
