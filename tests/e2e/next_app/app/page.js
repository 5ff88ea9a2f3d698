import Link from 'next/link'

export const revalidate = 60

export default function Home() {
  return (
    <main>
      <h1>Home</h1>
      <img src="/logo.svg" alt="" width="16" height="16" />
      <Link href="/isr/first">an article</Link>
    </main>
  )
}
