import { revalidatePath } from 'next/cache'
import { after } from 'next/server'
import { tellProxy } from '../../../lib/proxy'

// revalidatePath counts from the end of this handler. A purge may be sent before it, as nothing is fetched
// until the next visit; a revalidate fetches at once, so it has to come after.
export async function POST(request) {
  const { path, call } = await request.json()
  revalidatePath(path)
  if (call === 'revalidate') {
    after(() => tellProxy('revalidate', { paths: [path] }))
    return Response.json({ matched: null }, { status: 202 })
  }
  return Response.json(await tellProxy('purge', { paths: [path] }))
}
