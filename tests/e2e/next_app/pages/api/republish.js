import { tellProxy } from '../../lib/proxy'

// res.revalidate is done when it returns, so the proxy may fetch right behind it.
export default async function handler(request, response) {
  const { path } = request.body
  await response.revalidate(path)
  response.json(await tellProxy('revalidate', { paths: [path], wait: true }))
}
