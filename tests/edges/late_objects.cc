/*
 * If this fails, C++ objects with thread or static storage duration cannot allocate and free in
 * their destructors, or leak with every thread.
 */
#include "edge.h"

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

unsigned destroyed_at_exit;

/* Holds memory of many classes, and needs more to let go of it. */
class Holder {
  public:
    Holder() {
        for (std::size_t i = 0; i < 40; i++) {
            texts.emplace_back(i * i * 5, char('a' + i % 26));
            numbers[int(i)] = std::vector<int>(i * 10, int(i));
        }
    }
    ~Holder() {
        std::vector<std::string> copy(texts);
        for (std::size_t i = 0; i < copy.size(); i++) {
            CHECK(copy[i] == std::string(i * i * 5, char('a' + i % 26)));
            CHECK(numbers[int(i)].size() == i * 10);
        }
        next.reset(depth < 3 ? new Holder(depth + 1) : nullptr);
    }
    std::size_t size() const {
        return texts.size();
    }

  private:
    explicit Holder(unsigned with_depth) : Holder() {
        depth = with_depth;
    }
    unsigned depth = 0;
    std::vector<std::string> texts;
    std::map<int, std::vector<int>> numbers;
    std::unique_ptr<Holder> next;
};

Holder global;
thread_local Holder of_thread;
thread_local std::unique_ptr<Holder> made_last;

/* Destructors of thread_local objects that use another, which is made then. */
struct UsesOther {
    ~UsesOther() {
        made_last.reset(new Holder);
    }
};
thread_local UsesOther uses_other;

void in_thread() {
    CHECK(of_thread.size() == 40);
    CHECK(&uses_other != nullptr);
    auto shared = std::make_unique<Holder>();
    CHECK(shared->size() == 40);
}

void run_threads(unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        std::thread one(in_thread);
        std::thread other(in_thread);
        one.join();
        other.join();
    }
}

void thread_local_objects_allocate_to_the_end() {
    run_threads(300);
    std::size_t before = edge_resident_bytes();
    run_threads(1000);
    std::size_t after = edge_resident_bytes();
    if (after > before + (12u << 20)) {
        FAIL("%zu bytes stay", after - before);
    }
    in_thread(); /* those of the main thread go at exit */
}

/* The other thread's objects are destroyed while this one's exit handlers run. */
void exit_while_threads_end() {
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < 8; i++) {
        threads.emplace_back(in_thread);
        threads.back().detach();
    }
    in_thread();
    threads.clear();
}

void an_uncaught_end_of_a_thread_unwinds() {
    std::thread thread([] {
        try {
            auto holder = std::make_unique<Holder>();
            throw std::string(5000, 'x');
        } catch (const std::string &text) {
            CHECK(text.size() == 5000);
        }
        pthread_exit(nullptr);
    });
    thread.join();
}

struct AtExit {
    ~AtExit() {
        destroyed_at_exit++;
        std::vector<Holder> several(3);
        CHECK(several[2].size() == 40);
    }
} at_exit;

const struct edge_case cases[] = {
    EDGE_CASE(thread_local_objects_allocate_to_the_end),
    EDGE_CASE(exit_while_threads_end),
    EDGE_CASE(an_uncaught_end_of_a_thread_unwinds),
};

} // namespace

EDGE_MAIN(cases)
