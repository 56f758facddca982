// What nobody may miss, known to more than one part of the page.
import { LATER, getJson } from './api.js';
import { observable } from './observable.js';

/** The latest kill switch event (`/v1/kill_switch_events`), or null. */
export const killSwitch = observable(null);

/** Looks whether there is a later one. */
export async function lookForKillSwitch() {
  try {
    const { items } = await getJson('v1/kill_switch_events', { limit: 1 }, LATER);
    const latest = items[0] ?? null;
    if (latest?.id !== killSwitch.get()?.id) killSwitch.set(latest);
  } catch {
    // It is looked for again soon; that nothing can be asked, every part says for itself.
  }
}
