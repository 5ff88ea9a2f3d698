import { notFound } from 'next/navigation'
import { Article } from '../../../lib/article'
import { article } from '../../../lib/content'

// Rendered for every request: here the proxy brings the ISR.
export const dynamic = 'force-dynamic'

export default async function Page({ params }) {
  const found = await article((await params).slug)
  if (!found) notFound()
  return <Article article={found} preview={false} />
}
