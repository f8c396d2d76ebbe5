// The service, as the page sees it. A failure is an ApiError; `offline` when nothing was heard from the server, so that
// the same request may simply be sent again (answers carry a key that makes it safe).

export class ApiError extends Error {
  constructor(status, code, message, retryAfter = 0) {
    super(message);
    Object.assign(this, { status, code, retryAfter });
  }
  get offline() { return this.status === 0; }
}

const TIMEOUT_MS = 20000;
let csrf = "";
let clockOffset = 0; // server's clock minus ours, ms

export const setCsrf = (token) => { csrf = token ?? ""; };
export const serverNow = () => Date.now() + clockOffset;

async function once(method, path, body, headers) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: {
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...(method === "GET" ? {} : { "X-CSRF-Token": csrf }),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
      redirect: "error",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    throw new ApiError(0, "offline", "no connection");
  }
  const date = Date.parse(response.headers.get("Date") ?? "");
  if (!Number.isNaN(date)) clockOffset = date - Date.now();
  let content;
  try {
    content = await response.json();
  } catch {
    // An answer cut off on the way is as good as none; a proxy's error page is its status.
    throw response.ok ? new ApiError(0, "offline", "the answer was cut off") : new ApiError(response.status, "unknown", response.statusText);
  }
  if (response.ok) return content;
  const error = content?.error ?? {};
  throw new ApiError(response.status, error.code ?? "unknown", error.message ?? response.statusText,
    Number(response.headers.get("Retry-After")) || 0);
}

/// 403 may only mean that the token is of an older session: it is fetched anew, once.
async function request(method, path, body, headers = {}) {
  const needsToken = method !== "GET" && path !== "/api/join" && path !== "/api/login";
  if (needsToken && !csrf) setCsrf((await once("GET", "/api/me")).csrf); // the page was opened without a network
  try {
    return await once(method, path, body, headers);
  } catch (error) {
    if (error.status !== 403 || !needsToken) throw error;
    setCsrf((await once("GET", "/api/me")).csrf);
    return once(method, path, body, headers);
  }
}

async function enter(path, body) {
  const me = await request("POST", path, body);
  setCsrf(me.csrf);
  return me;
}

export const api = {
  me: async () => {
    const me = await request("GET", "/api/me");
    setCsrf(me.csrf);
    return me;
  },
  join: (invitation) => enter("/api/join", { invitation }), // without a language: that of the page is not what someone can judge
  login: (name, password) => enter("/api/login", { name, password }),
  password: (change) => request("POST", "/api/password", change),
  logout: () => request("POST", "/api/logout", {}),
  guideline: (hash) => request("GET", `/api/guideline?hash=${encodeURIComponent(hash ?? "")}`),
  next: (held) => request("POST", "/api/next", held.length ? { held } : {}),
  renew: ({ id, token }) => request("POST", "/api/renew", { assignment: id, token }),
  draft: ({ id, token }, body) => request("PUT", "/api/draft", { assignment: id, token, body }),
  answer: ({ key, ...answer }) => request("POST", "/api/answers", answer, { "Idempotency-Key": key }),
  undo: () => request("POST", "/api/undo", {}),
  overview: (project) => request("GET", `/api/manage/overview${project ? `?project=${encodeURIComponent(project)}` : ""}`),
  raters: () => request("GET", "/api/manage/raters"),
  invite: (invitation) => request("POST", "/api/manage/invitations", invitation),
  erase: (pseudonym) => request("POST", `/api/manage/raters/${encodeURIComponent(pseudonym)}/erase`, {}),
  revoke: (pseudonym) => request("POST", `/api/manage/raters/${encodeURIComponent(pseudonym)}/revoke`, {}),
};
