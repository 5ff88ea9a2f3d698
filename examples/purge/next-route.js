// Next.js (15.1 and newer): save this as app/api/publish/route.js and call it when something was published.
//
//   curl -X POST https://www.example.org/api/publish -H "Authorization: Bearer $PUBLISH_SECRET" \
//        -H 'Content-Type: application/json' -d '{"paths": ["/blog/hello"]}'
//
// In front of it isr-proxy needs `/api/**` with `revalidate: 0`, so that the call reaches the app.
// Environment of the app: ISR_ADMIN_URL, ISR_ADMIN_TOKEN, PUBLISH_SECRET.

import { timingSafeEqual } from 'node:crypto'
import { revalidatePath } from 'next/cache'
import { after } from 'next/server'

function isAllowed(request) {
  const wanted = Buffer.from(`Bearer ${process.env.PUBLISH_SECRET ?? ''}`)
  const given = Buffer.from(request.headers.get('authorization') ?? '')
  return Boolean(process.env.PUBLISH_SECRET) && given.length === wanted.length && timingSafeEqual(given, wanted)
}

// `revalidate` keeps serving the old page until the new one is there; use `purge` for what must vanish now.
async function tellProxy(call, selectors) {
  const answer = await fetch(`${process.env.ISR_ADMIN_URL}/v1/${call}`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${process.env.ISR_ADMIN_TOKEN}`,
      'content-type': 'application/json',
    },
    body: JSON.stringify(selectors),
    cache: 'no-store',
    signal: AbortSignal.timeout(5000),
  })
  if (!answer.ok) throw new Error(`isr-proxy said ${answer.status}: ${await answer.text()}`)
}

export async function POST(request) {
  if (!isAllowed(request)) return new Response('forbidden\n', { status: 403 })
  const { paths } = await request.json()
  for (const path of paths) revalidatePath(path)
  // Next's own cache lets go of a page when this handler ends. The proxy fetches at once, so it is told later.
  after(() => tellProxy('revalidate', { paths }))
  return Response.json({ paths }, { status: 202 })
}
