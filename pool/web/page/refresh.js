// Tables that are asked for: at once, and again now and then while somebody looks.

const AGAIN_MS = 15_000;

/** Call `load` now, raising what it raises, and again until the page is left. */
export async function refreshed(context, load) {
  await load();
  const timer = setInterval(() => {
    if (!document.hidden) load().catch(() => {}); // the sign of what is live tells that the pool is away
  }, AGAIN_MS);
  context.signal.addEventListener("abort", () => clearInterval(timer));
}
