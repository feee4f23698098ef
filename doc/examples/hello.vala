/* hello.vala: a task that runs in a thread
 *
 * SPDX-License-Identifier: LGPL-2.1-or-later
 */

int main () {
  var loop = new MainLoop ();
  var name = "world";

  /* Called by the main loop when the worker has ended. */
  var task = new QTask.Task (null, (task) => {
    try {
      print ("%s\n", task.propagate_variant ().get_string ());
    } catch (Error error) {
      printerr ("No greeting: %s\n", error.message);
    }
    loop.quit ();
  });

  /* Called in a thread of a pool. What it throws becomes the task's error. */
  task.run_in_thread ((task) => {
    task.set_result_variant (new Variant.string (@"Hello, $name!"));
    return true;
  });

  loop.run ();
  return 0;
}
