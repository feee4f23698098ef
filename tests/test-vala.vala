/* test-vala.vala: QTask as Vala sees it, through the vapi
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

const int64 TIME_LIMIT = 60 * TimeSpan.SECOND;

/* Where a worker waits for the test. */
class Gate {
  Mutex mutex;
  Cond cond;
  bool is_open;

  public void open () {
    mutex.lock ();
    is_open = true;
    cond.broadcast ();
    mutex.unlock ();
  }

  public void pass () {
    int64 end = get_monotonic_time () + TIME_LIMIT;

    mutex.lock ();
    while (!is_open)
      if (!cond.wait_until (mutex, end))
        error ("the gate was never opened");
    mutex.unlock ();
  }
}

/* What the caller hands over; tells where it goes to. */
class Data : Object {
  public static unowned Thread<void*> gone;
  public int number;

  public Data (int number) {
    this.number = number;
    gone = null;
  }

  ~Data () {
    gone = Thread.self<void*> ();
  }
}

class Doubler : QTask.Task {
  public int number { get; construct; }
  public unowned Thread<void*> thread;

  public Doubler (int number) {
    Object (number: number, name: "doubler");
  }

  public override bool run () throws Error {
    thread = Thread.self<void*> ();
    if (number < 0)
      throw new IOError.INVALID_ARGUMENT ("negative");
    set_result_int (2 * number);
    return true;
  }
}

class Tests {
  public static unowned Thread<void*> main_thread;

  static void iterate_until_completed (QTask.Task task) {
    while (!task.completed)
      MainContext.default ().iteration (true);
  }

  public static void worker_with_target () {
    unowned Thread<void*> worker_thread = null;
    unowned Thread<void*> func_thread = null;
    int number = 20;

    var task = new QTask.Task (null, (task) => {
      func_thread = Thread.self<void*> ();
      number++;
    });

    task.run_in_thread ((task) => {
      worker_thread = Thread.self<void*> ();
      number++;
      return true;
    });

    iterate_until_completed (task);
    assert_true (worker_thread != null && worker_thread != main_thread);
    assert_true (func_thread == main_thread);
    assert_cmpint (number, EQ, 22);
    assert_false (task.had_error ());
    assert_true (task.get_error () == null);
    assert_true (task.poll () == QTask.TaskState.FINISHED);
  }

  public static void worker_that_throws () {
    var task = new QTask.Task (null, null);

    task.run_in_thread ((task) => {
      throw new IOError.NOT_FOUND ("missing");
    });

    try {
      task.wait ();
      task.propagate_error ();
      assert_not_reached ();
    } catch (IOError.NOT_FOUND e) {
      assert_cmpstr (e.message, EQ, "missing");
    } catch (Error e) {
      assert_not_reached ();
    }
  }

  public static void worker_that_says_nothing () {
    var task = new QTask.Task (null, null);

    task.run_in_thread ((task) => { return false; });

    try {
      task.wait ();
      task.propagate_int ();
      assert_not_reached ();
    } catch (QTask.TaskError.FAILED e) {
    } catch (Error e) {
      assert_not_reached ();
    }
  }

  public static void subclass () {
    var task = new Doubler (21);

    task.run_in_thread (null);

    try {
      task.wait ();
      assert_cmpint ((int) task.propagate_int (), EQ, 42);
    } catch (Error e) {
      assert_not_reached ();
    }

    assert_true (task.thread != null && task.thread != main_thread);
    assert_cmpstr (task.name, EQ, "doubler");
  }

  public static void subclass_that_throws () {
    var task = new Doubler (-1);

    task.run_in_thread (null);

    try {
      task.wait ();
      task.propagate_int ();
      assert_not_reached ();
    } catch (IOError.INVALID_ARGUMENT e) {
    } catch (Error e) {
      assert_not_reached ();
    }
  }

  static async int double_each (int[] numbers) throws Error {
    Doubler[] tasks = {};
    int sum = 0;

    foreach (var number in numbers) {
      var task = new Doubler (number);
      task.run_in_thread (null);
      tasks += task;
    }

    foreach (var task in tasks) {
      yield task.wait_async (null);
      sum += (int) task.propagate_int ();
    }

    return sum;
  }

  public static void await_tasks () {
    var loop = new MainLoop ();
    int sum = 0;
    bool failed = false;

    double_each.begin ({ 1, 2, 3, 4 }, (object, result) => {
      try {
        sum = double_each.end (result);
      } catch (Error e) {
        assert_not_reached ();
      }
      loop.quit ();
    });
    loop.run ();
    assert_cmpint (sum, EQ, 20);

    double_each.begin ({ 1, -2, 3 }, (object, result) => {
      try {
        double_each.end (result);
      } catch (IOError.INVALID_ARGUMENT e) {
        failed = true;
      } catch (Error e) {
        assert_not_reached ();
      }
      loop.quit ();
    });
    loop.run ();
    assert_true (failed);
  }

  /* A closure shares the variables of the function it is written in: here it is the only one
   * that keeps @data. */
  static void push_with (QTask.TaskPool pool, QTask.Task task, Data data) throws Error {
    pool.push (task, (task) => { return data.number == 1; });
  }

  static async void use_pool () throws Error {
    var pool = new QTask.TaskPool ("vala", 1, 1);
    var gate = new Gate ();
    var started = new Gate ();
    QTask.Task[] tasks = {};

    for (int i = 0; i < 3; i++)
      tasks += new QTask.Task (null, null);

    for (int i = 0; i < 2; i++) {
      pool.push (tasks[i], (task) => {
        started.open ();
        gate.pass ();
        return true;
      });
      started.pass ();
    }

    // What a refused worker held is released.
    try {
      push_with (pool, tasks[2], new Data (1));
      assert_not_reached ();
    } catch (QTask.TaskError.QUEUE_FULL e) {
    }
    assert_true (Data.gone == main_thread);

    var stats = pool.get_stats ();
    assert_cmpuint (stats.threads, EQ, 1);
    assert_cmpuint (stats.queued, EQ, 1);
    assert_cmpuint (pool.list_tasks ().length, EQ, 2);

    gate.open ();
    yield pool.wait_for_space_async (null);
    pool.push (tasks[2], (task) => { return true; });
    yield pool.close_async (QTask.TaskPoolCloseMode.DRAIN, null);
    assert_true (pool.is_closed ());

    foreach (var task in tasks) {
      yield task.wait_async (null);
      assert_false (task.had_error ());
    }
  }

  public static void pool () {
    var loop = new MainLoop ();

    use_pool.begin ((object, result) => {
      try {
        use_pool.end (result);
      } catch (Error e) {
        error ("%s", e.message);
      }
      loop.quit ();
    });
    loop.run ();
  }

  public static void cancel () {
    var started = new Gate ();
    var stopped = new Gate ();
    var task = new QTask.Task (null, null);

    task.run_in_thread ((task) => {
      unowned var cancellable = task.get_stop_cancellable ();
      cancellable.connect (() => { stopped.open (); });
      started.open ();
      stopped.pass ();
      cancellable.set_error_if_cancelled ();
      return true;
    });
    started.pass ();
    task.cancel ();

    try {
      task.wait ();
      task.propagate_boolean ();
      assert_not_reached ();
    } catch (IOError.CANCELLED e) {
    } catch (Error e) {
      assert_not_reached ();
    }
    assert_true (task.poll () == QTask.TaskState.STOPPED);
  }

  public static void progress () {
    double seen = 0.0;
    string? text = null;
    var task = new QTask.Task (null, null);

    task.notify["progress"].connect ((object, pspec) => {
      assert_true (Thread.self<void*> () == main_thread);
      seen = ((QTask.Task) object).progress;
      text = ((QTask.Task) object).progress_text;
    });
    task.run_in_thread ((task) => {
      task.set_progress (0.5, "half");
      return true;
    });
    iterate_until_completed (task);
    assert_true (seen == 0.5);
    assert_cmpstr (text, EQ, "half");
  }

  public static void results () {
    var object = new Data (3);

    try {
      var task = new QTask.Task (null, null);
      task.set_result_object (object);
      task.complete ();
      assert_true (task.propagate_object () == object);

      task = new QTask.Task (null, null);
      task.set_result_variant (new Variant ("(sb)", "x", true));
      task.complete ();
      assert_cmpstr (task.propagate_variant ().print (true), EQ, "('x', true)");

      task = new QTask.Task (null, null);
      task.set_result_bytes (new Bytes ({ 1, 0, 2 }));
      task.complete ();
      assert_cmpuint ((uint) task.propagate_bytes ().get_size (), EQ, 3);

      task = new QTask.Task (null, null);
      task.set_result_value (7);
      task.complete ();
      assert_cmpint (task.propagate_value ().get_int (), EQ, 7);

      task = new QTask.Task (null, null);
      task.set_result_boolean (true);
      task.complete ();
      assert_true (task.propagate_boolean ());
    } catch (Error e) {
      assert_not_reached ();
    }
  }

  public static void released_by_the_owner () {
    var task = new QTask.Task (null, null);

    try {
      push_with (QTask.TaskPool.get_default (), task, new Data (1));
    } catch (Error e) {
      assert_not_reached ();
    }
    iterate_until_completed (task);
    assert_false (task.had_error ());

    while (Data.gone == null)
      MainContext.default ().iteration (true);
    assert_true (Data.gone == main_thread);
  }

  public static void for_an_async_function () {
    var source = new Data (1);
    var task = new QTask.Task (source, null);
    AsyncResult result = task;

    assert_true (result.get_source_object () == source);
    assert_true (QTask.Task.is_valid (result, source));
    assert_false (QTask.Task.is_valid (result, null));
  }

  public static void channel () {
    int messages = 0;
    bool ended = false;

    var task = new QTask.Task (null, (task) => {
      assert_true (ended);
    });

    try {
      task.open_channel ();
    } catch (Error e) {
      assert_not_reached ();
    }
    task.get_channel ().set_message_func ((channel, message) => {
      assert_true (Thread.self<void*> () == main_thread);
      if (message == null)
        ended = true;
      else
        assert_cmpint (message.get_data ()[0], EQ, messages++);
    });

    task.run_in_thread ((task) => {
      for (uint8 i = 0; i < 100; i++)
        task.get_worker_channel ().write ({ i });
      return true;
    });

    iterate_until_completed (task);
    assert_cmpint (messages, EQ, 100);
    assert_false (task.had_error ());
  }

  public static void sync () {
    int syncs = 0;
    int turns = 0;
    var task = new QTask.Task (null, null);

    task.set_sync_func ((task) => {
      assert_true (Thread.self<void*> () == main_thread);
      syncs++;
      turns++;
      assert_true (task.resume (syncs == 3));
    });
    task.run_in_thread ((task) => {
      while (true) {
        turns++;
        task.sync ();
      }
    });

    iterate_until_completed (task);
    assert_cmpint (syncs, EQ, 3);
    assert_cmpint (turns, EQ, 6);
    assert_true (task.poll () == QTask.TaskState.STOPPED);
    try {
      task.propagate_error ();
      assert_not_reached ();
    } catch (IOError.CANCELLED e) {
    } catch (Error e) {
      assert_not_reached ();
    }
  }

  public static void steps () {
    int steps = 0;
    var task = new QTask.Task (null, null);
    var throws = new QTask.Task (null, null);

    task.set_sync_func ((task) => { task.resume (false); });
    task.run_steps_in_thread ((task) => {
      switch (steps++) {
      case 0:
        return QTask.TaskStep.CHECK_IN;
      case 1:
        return QTask.TaskStep.SYNC;
      default:
        return QTask.TaskStep.FINISHED;
      }
    });
    iterate_until_completed (task);
    assert_cmpint (steps, EQ, 3);
    assert_false (task.had_error ());

    throws.run_steps_in_thread ((task) => {
      throw new IOError.NOT_FOUND ("missing");
    });
    iterate_until_completed (throws);
    try {
      throws.propagate_error ();
      assert_not_reached ();
    } catch (IOError.NOT_FOUND e) {
    } catch (Error e) {
      assert_not_reached ();
    }
  }

  public static void bind () {
    string[] seen = {};
    bool was_called = false;
    var gate = new Gate ();
    var window = new Data (1);

    var task = new QTask.Task (null, (task) => { was_called = true; });
    task.bind_object (window, QTask.TaskBindFlags.DEFAULT);
    task.run_in_thread ((task) => {
      gate.pass ();
      return true;
    });
    window = null;
    assert_true (task.is_cancelled ());
    gate.open ();
    try {
      task.wait ();
    } catch (Error e) {
      assert_not_reached ();
    }
    while (MainContext.default ().iteration (false));
    assert_false (was_called);

    var told = new QTask.Task (null, (task) => { seen += "completed"; });
    told.bind_callback ((task, message) => {
      seen += message == null ? "end" : ((string) message.get_data ()).substring (0, message.length);
    });
    try {
      told.open_channel ();
    } catch (Error e) {
      assert_not_reached ();
    }
    told.run_in_thread ((task) => {
      task.get_worker_channel ().write_bytes (new Bytes ("one".data));
      return true;
    });
    iterate_until_completed (told);
    assert_cmpstr (string.joinv (" ", seen), EQ, "one end completed");
  }

  private static async void await_group (QTask.TaskGroup group, GLib.MainLoop loop) {
    try {
      assert_true (yield group.wait_async (QTask.TaskGroupWaitMode.ALL));
    } catch (Error e) {
      assert_not_reached ();
    }
    loop.quit ();
  }

  public static void group () {
    var group = new QTask.TaskGroup (QTask.TaskGroupFlags.DEFAULT);
    var loop = new MainLoop ();
    uint n_changes = 0;
    ListModel list = group;

    list.items_changed.connect ((position, removed, added) => {
      assert_true (Thread.self<void*> () == main_thread);
      n_changes++;
    });
    for (int i = 0; i < 3; i++) {
      var task = new QTask.Task (null, null);
      try {
        assert_true (group.add (task));
        assert_true (list.get_object (i) == task);
      } catch (Error e) {
        assert_not_reached ();
      }
      task.run_in_thread ((task) => {
        return true;
      });
    }
    assert_cmpuint (list.get_n_items (), EQ, 3);

    await_group.begin (group, loop);
    loop.run ();
    assert_cmpuint (list.get_n_items (), EQ, 0);
    assert_cmpuint (n_changes, EQ, 6);
    assert_true (group.progress == 1.0);

    group.close ();
    assert_true (group.is_closed);
    assert_false (group.is_cancelled);
    try {
      group.add (new QTask.Task (null, null));
      assert_not_reached ();
    } catch (Error e) {
      assert_true (e is QTask.TaskError.CLOSED);
    }
  }

  public static void parallel_for () {
    var pool = new QTask.TaskPool ("for", 2, 0);
    var squares = new size_t[1000];

    try {
      assert_true (pool.parallel_for (squares.length, 10, (begin, end) => {
        for (var i = begin; i < end; i++)
          squares[i] = i * i;
        return true;
      }));
      for (size_t i = 0; i < squares.length; i++)
        assert_true (squares[i] == i * i);

      pool.parallel_for (squares.length, 10, (begin, end) => {
        throw new IOError.BUSY ("busy");
      });
      assert_not_reached ();
    } catch (Error e) {
      assert_true (e is IOError.BUSY);
    }
  }
}

int main (string[] args) {
  Test.init (ref args);

  Tests.main_thread = Thread.self<void*> ();

  Test.add_func ("/vala/worker-with-target", Tests.worker_with_target);
  Test.add_func ("/vala/worker-that-throws", Tests.worker_that_throws);
  Test.add_func ("/vala/worker-that-says-nothing", Tests.worker_that_says_nothing);
  Test.add_func ("/vala/subclass", Tests.subclass);
  Test.add_func ("/vala/subclass-that-throws", Tests.subclass_that_throws);
  Test.add_func ("/vala/await", Tests.await_tasks);
  Test.add_func ("/vala/pool", Tests.pool);
  Test.add_func ("/vala/cancel", Tests.cancel);
  Test.add_func ("/vala/progress", Tests.progress);
  Test.add_func ("/vala/results", Tests.results);
  Test.add_func ("/vala/released-by-the-owner", Tests.released_by_the_owner);
  Test.add_func ("/vala/async-result", Tests.for_an_async_function);
  Test.add_func ("/vala/channel", Tests.channel);
  Test.add_func ("/vala/sync", Tests.sync);
  Test.add_func ("/vala/steps", Tests.steps);
  Test.add_func ("/vala/bind", Tests.bind);
  Test.add_func ("/vala/group", Tests.group);
  Test.add_func ("/vala/parallel-for", Tests.parallel_for);

  return Test.run ();
}
