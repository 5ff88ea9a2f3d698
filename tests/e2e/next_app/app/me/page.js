import { cookies } from 'next/headers'

export default async function Me() {
  const visitor = (await cookies()).get('visitor')?.value ?? 'nobody'
  return <p>{`visitor=${visitor}`}</p>
}
