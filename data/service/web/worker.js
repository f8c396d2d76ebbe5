// Keeps the page's files (never anything a person wrote), so that a reload without a network works.

const ASSETS = "{{assets}}";
const CACHE = `hone${ASSETS}`;

self.addEventListener("install", (event) => { event.waitUntil(self.skipWaiting()); });

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) if (name !== CACHE) await caches.delete(name);
    await self.clients.claim();
  })());
});

/// The page says what it was loaded with before this worker was there.
self.addEventListener("message", (event) => {
  const keep = (event.data?.keep ?? []).filter((path) => path === "/" || path.startsWith(`${ASSETS}/`));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(keep)).catch(() => {}));
});

async function asset(request) {
  const kept = await caches.match(request);
  if (kept) return kept;
  const response = await fetch(request);
  if (response.ok) (await caches.open(CACHE)).put(request, response.clone());
  return response;
}

/// Pages come from the network while there is one: the kept page names the files of its own version.
async function page(request) {
  try {
    const response = await fetch(request);
    if (response.ok) (await caches.open(CACHE)).put("/", response.clone());
    return response;
  } catch (error) {
    const kept = await caches.match("/");
    if (kept) return kept;
    throw error;
  }
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== self.location.origin) return;
  if (url.pathname.startsWith("/assets/")) event.respondWith(asset(request));
  else if (request.mode === "navigate" && url.pathname === "/") event.respondWith(page(request));
});
